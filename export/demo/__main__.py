"""Attack single searches in the browser: `python -m export.demo --run-dir R`."""

import dataclasses
import ipaddress
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

try:
    import gradio as gr
except ImportError as error:
    raise ImportError("The page needs Gradio. Install it: pip install 'saat-tf[demo]'.") from error
import rich.progress
import tyro

from export.demo.app import THEME, build_app
from export.demo.guard import middleware
from export.demo.searches import Engine
from saat_tf.command_line import ExitCode
from saat_tf.data import RetrievalData
from saat_tf.pages import stylesheet
from trainers.run_folder.finished_run import applies_orientation, load_run_data, read_card, resize_size
from trainers.run_folder.models import HASHING, ROBUST, load_encoder_file

MAX_UPLOAD = "20mb"
MODEL_FILES = {"undefended": HASHING, "robust": ROBUST}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Show a page on which single searches of a finished run can be attacked.

    Command: python -m export.demo --run-dir R
    The undefended and the robust encoder of the run stand side by side: what each finds before and after the attack,
    the bits that flip, and the change of the picture. Both databases are encoded first.
    """

    run_dir: Path
    """Folder of a finished run."""
    data_dir: Path | None = None
    """Where the images are now, a folder in the list format, if not where the run found them."""
    num_database: int | None = None
    """Search the first so many images of the database only, for a faster start."""
    host: str = "127.0.0.1"
    """Address to listen at. Everyone who reaches it can use the page and this machine's processor."""
    port: int = 7860
    """Port to listen at."""


def main(options: DemoOptions) -> int:
    """Show the page until it is interrupted; return the exit code: 0, or 2 where options or run are refused."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    with ExitCode() as outcome:
        app = load_app(options)
        if not is_loopback(options.host):
            print(f"warning: everyone who reaches {options.host} can use this page; it asks for no password.")
        launch(app, options)
    if outcome.code:
        return outcome.code
    print(f"http://{options.host}:{options.port}  (Ctrl-C ends it)", flush=True)
    app.block_thread()
    return 0


def load_app(options: DemoOptions) -> gr.Blocks:
    """Load the run, encode its database with each model, and build the page.

    Raises:
        ValueError: an option is out of its range, or something of the run is missing or damaged.
    """
    if options.num_database is not None and options.num_database < 1:
        raise ValueError(f"--num-database must be at least 1. Received: {options.num_database}.")
    if not 1 <= options.port <= 65535:
        raise ValueError(f"--port must be in 1 to 65535. Received: {options.port}.")
    card = read_card(options.run_dir)
    models = {title: load_encoder_file(options.run_dir / file) for title, file in MODEL_FILES.items()}
    data = _first(load_run_data(options.run_dir, card, options.data_dir, track), options.num_database)
    engines = [Engine(title, model, data, track=track) for title, model in models.items()]
    return build_app(engines, resize_size(card), apply_orientation=applies_orientation(card))


def launch(app: gr.Blocks, options: DemoOptions) -> None:
    """Serve the page, on this machine alone unless `options` say otherwise."""
    app.launch(
        server_name=options.host,
        server_port=options.port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        footer_links=[],
        max_file_size=MAX_UPLOAD,
        state_session_capacity=200,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        theme=THEME,
        css=stylesheet(),
        app_kwargs={"middleware": middleware(is_loopback(options.host))},
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches `host`.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("example.org")
        (True, True, False, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def track(items: Iterable, total: int, description: str) -> Iterable:
    """Yield `items` below a bar; a `saat_tf.progress.Track`."""
    return rich.progress.track(items, description, total)


def _first(data: RetrievalData, num_database: int | None) -> RetrievalData:
    database = dataclasses.replace(data.database, labels=data.database.labels[:num_database])
    return dataclasses.replace(data, database=database)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(DemoOptions)))
