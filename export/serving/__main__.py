"""Write a folder for TensorFlow Serving: `python -m export.serving --run-dir R --out DIR --version 1`."""

import dataclasses
import re
import sys
from pathlib import Path

import tyro

from export.encoder.source import EncoderSource
from export.saved_model import decoding_of, export_saved_model
from export.serving.warm_up import write_warm_up
from saat_tf.command_line import ExitCode
from saat_tf.files import atomic, write_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

# A request of more images than max_batch_size is refused. The server pads smaller batches to the next allowed
# size, so that only a few sizes occur, each of which is warmed up.
BATCHING = """\
max_batch_size { value: 32 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
allowed_batch_sizes: 1
allowed_batch_sizes: 8
allowed_batch_sizes: 32
"""
MODELS = """\
model_config_list {{
{models}}}
"""
MODEL = """\
  config {{
    name: "{name}"
    base_path: "/serving/models/{name}"
    model_platform: "tensorflow"
  }}
"""
# The ports are open on this machine alone: the server has no authentication.
COMPOSE = """\
services:
  serving:
    image: tensorflow/serving:${TENSORFLOW_SERVING:-2.21.0}
    user: 65534:65534
    mem_limit: ${SERVING_MEMORY:-4g}
    cpus: ${SERVING_CPUS:-2}
    pids_limit: 512
    command:
      - --model_config_file=/serving/models.config
      - --model_config_file_poll_wait_seconds=60
      - --enable_batching=true
      - --batching_parameters_file=/serving/batching_parameters.txt
    ports:
      - 127.0.0.1:8500:8500
      - 127.0.0.1:8501:8501
    volumes:
      - .:/serving:ro
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: [no-new-privileges:true]
    restart: unless-stopped
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServingExport(EncoderSource):
    """Export an encoder as the next version of a model that TensorFlow Serving serves.

    The encoder is that of a run (--run-dir), of a preset (--preset), or of a file (--keras-file).

    Writes into OUT:
      models/NAME/VERSION      the SavedModel (see `export.saved_model`) with warm-up requests
      models.config            every model in models/
      batching_parameters.txt  how the server batches requests
      compose.yaml             starts the public image: docker compose up
    The last two are written once and are meant to be edited. A version is never overwritten; a running server finds a
    new one by itself, and serves the old one until the new one is warm.
    """

    out: Path
    """Folder of the server's files; it may exist."""
    version: int
    """Number of the version. The server serves the highest."""
    name: str = "encoder"
    """Name of the model in requests."""


def main(options: ServingExport) -> int:
    """Export as `options` say; return the exit code: 0, or 2 where they are refused."""
    folder = options.out / "models" / options.name / str(options.version)
    with ExitCode() as outcome:
        check_options(options)
        encoder, card = options.load()
        options.out.mkdir(parents=True, exist_ok=True)
        write_once(options.out / "batching_parameters.txt", BATCHING)
        write_once(options.out / "compose.yaml", COMPOSE)
        batch_sizes = allowed_batch_sizes(options.out / "batching_parameters.txt")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic(folder) as whole:  # fails where another export has been faster
            export_saved_model(encoder, whole, **decoding_of(card), card=card)
            write_warm_up(whole, options.name, batch_sizes)
        write_models_config(options.out)
    if outcome.code:
        return outcome.code
    sizes = ", ".join(map(str, batch_sizes))
    print(f"{folder}: warmed up for batches of {sizes}. In {options.out}, `docker compose up` starts the server.")
    return 0


def check_options(options: ServingExport) -> None:
    """Check the options before anything is loaded.

    Raises:
        FileExistsError: there is such a version.
        ValueError: a name or version that the server does not accept.
    """
    if options.version < 1:
        raise ValueError(f"--version must be at least 1. Received: {options.version}.")
    if not NAME.fullmatch(options.name):
        raise ValueError(f"--name must be of letters, digits and _.-, a letter first. Received: {options.name!r}.")
    folder = options.out / "models" / options.name / str(options.version)
    if folder.exists():
        raise FileExistsError(f"{folder} exists, and a version is never overwritten. Choose a higher --version.")


def write_once(file: Path, text: str) -> None:
    """Write a file unless it exists."""
    if not file.exists():
        write_text(file, text)


def write_models_config(out: Path) -> None:
    """Write models.config, which names every folder in models/."""
    names = sorted(folder.name for folder in (out / "models").iterdir() if NAME.fullmatch(folder.name))
    text = MODELS.format(models="".join(MODEL.format(name=name) for name in names))
    write_text(out / "models.config", text)


def allowed_batch_sizes(file: Path) -> list[int]:
    """Read the allowed batch sizes from the batching parameters.

    Raises:
        ValueError: the file does not give them in rising order, or the last is not `max_batch_size`, as the server
            requires.
    """
    text = re.sub(r"#.*", "", file.read_text(encoding="utf-8"))
    sizes = [int(size) for size in re.findall(r"allowed_batch_sizes\s*:\s*(\d+)", text)]
    most = re.findall(r"max_batch_size\s*{\s*value\s*:\s*(\d+)\s*}", text)
    if not sizes or sizes != sorted(set(sizes)) or most != [str(sizes[-1])]:
        raise ValueError(
            f"{file}: expected lines `allowed_batch_sizes: N`, rising, the last one as large as max_batch_size. "
            f"Received: {sizes} and {', '.join(most) or 'no max_batch_size'}."
        )
    return sizes


if __name__ == "__main__":
    sys.exit(main(tyro.cli(ServingExport)))
