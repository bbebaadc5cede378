"""Encode image files by a server: `python -m export.client a.jpg b.png --uri http://127.0.0.1:8501`."""

import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import rich.console
import rich.table
import rich.text
import tyro

from export.serving.prediction import Client, ServingError, connect, with_retries
from saat_tf.command_line import ExitCode
from saat_tf.printable import printable

FILES_FAILED = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Send image files to TensorFlow Serving and print their codes, most significant bit first, as hexadecimals.

    Exit code: 0 when every file has a code, 1 when some could not be read, 2 when an option is wrong or the server
    failed, 130 when interrupted; the rows received until then are printed.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Image files."""
    uri: str = "http://127.0.0.1:8501"
    """The server: http://HOST:PORT or https://HOST:PORT for REST, grpc://HOST:PORT for gRPC."""
    name: str = "encoder"
    """Name of the model."""
    version: int | None = None
    """Version of the model; the newest by default."""
    batch_size: int = 32
    """Files in one request, at most the server's max_batch_size."""
    timeout: float = 10.0
    """Seconds that a request may take, from its connection to the last byte of its answer."""
    retries: int = 3
    """How often a request is repeated when the server is busy or cannot be reached."""
    output: Literal["table", "json"] = "table"
    """Format of the output."""


def main(options: ClientOptions) -> int:
    """Encode as `options` say; return the exit code."""
    rows = []
    with ExitCode(ServingError) as outcome:
        check_options(options)
        client = connect(options.uri, options.name, options.version, options.timeout)
        for row in encode_files(client, options.files, options.batch_size, options.retries):
            rows.append(row)
    if rows:
        show(rows, options.output)
    if outcome.code:
        return outcome.code
    return 0 if all(row["ok"] for row in rows) else FILES_FAILED


def check_options(options: ClientOptions) -> None:
    """Check the options before anything is sent.

    Raises:
        ValueError: an option is out of its range.
    """
    if not options.files:
        raise ValueError("Name at least one image file.")
    if options.batch_size < 1 or options.retries < 0 or not 0 < options.timeout < math.inf:
        raise ValueError(
            "--batch-size must be at least 1, --retries at least 0 and --timeout above 0. Received: "
            f"{options.batch_size}, {options.retries} and {options.timeout}."
        )


def encode_files(client: Client, files: tuple[Path, ...], batch_size: int, retries: int) -> Iterator[dict]:
    """Send files in batches.

    Yields:
        for each file, in order: `file`, `ok`, and `code` as hexadecimals or `error`.

    Raises:
        ServingError: a request failed for good; earlier rows have been yielded.
    """
    remaining = iter(files)
    while batch := list(itertools.islice(remaining, batch_size)):
        contents, faults = {}, {}
        for place, file in enumerate(batch):
            try:
                contents[place] = file.read_bytes()
            except OSError as error:
                faults[place] = f"cannot read the file: {error.strerror or error}"
        replies = with_retries(client, list(contents.values()), retries) if contents else []
        answered = dict(zip(contents, replies, strict=True))
        for place, file in enumerate(batch):
            if place in faults:
                yield {"file": str(file), "ok": False, "error": faults[place]}
            elif not answered[place].ok:
                yield {"file": str(file), "ok": False, "error": _refused(contents[place])}
            else:
                yield {"file": str(file), "ok": True, "code": answered[place].code.hex()}


def _refused(contents: bytes) -> str:
    from saat_tf.data.decoding.header import fault_of  # brings TensorFlow

    return f"the server cannot read it as an image: {fault_of(contents)}"


def show(rows: list[dict], output: Literal["table", "json"]) -> None:
    """Print the rows."""
    if output == "json":
        print(json.dumps(rows, indent=2))
        return
    table = rich.table.Table()
    table.add_column("file", overflow="fold")
    table.add_column("code", overflow="fold")
    for row in rows:
        told = rich.text.Text(row["code"]) if row["ok"] else rich.text.Text(printable(row["error"]), style="red")
        table.add_row(rich.text.Text(printable(row["file"])), told)
    rich.console.Console().print(table)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(ClientOptions)))
