"""Write an encoder as a SavedModel: `python -m export.saved_model --run-dir R --out DIR`."""

import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf
import tyro

from saat_tf.models import HashingModel

USAGE_ERROR = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedModelExport:
    """Write the encoder of a run as a SavedModel that returns packed codes.

    Its signature `serving_default` takes `images`, float32 (batch, S, S, 3) in [0, 1], and returns `packed_codes`,
    uint8 (batch, bits / 8), most significant bit first: the same bits as `HashingModel.encode`.
    """

    run_dir: Path
    """Folder of a finished run."""
    out: Path
    """Folder to write; it must not exist."""
    model: Literal["robust", "hashing"] = "robust"
    """The adversarially trained encoder, or the undefended one."""


def export_saved_model(encoder: HashingModel, out: Path) -> None:
    """Write `encoder` as a SavedModel with the one signature `serving_default`.

    The folder appears under its name when it is whole.

    Args:
        encoder: the encoder; its code length is a multiple of 8.
        out: the folder to write.

    Raises:
        FileExistsError: `out` exists.
        ValueError: the code length is not a multiple of 8.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists, and an export is never overwritten. Choose another --out.")
    side = encoder.image_size
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint(
        "serving_default",
        lambda images: {"packed_codes": encoder.encode(images)},
        input_signature=[tf.TensorSpec((None, side, side, 3), tf.float32, name="images")],
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".writing-{out.name}-", dir=out.parent) as temporary:
        whole = Path(temporary) / out.name
        archive.write_out(whole, verbose=False)
        shutil.move(whole, out)


def main(options: SavedModelExport) -> int:
    """Export as `options` say; return the exit code: 0, or 2 where they are at fault."""
    model_file = options.run_dir / f"{options.model}.keras"
    if not model_file.is_file():
        print(f"error: {model_file}: no such file. --run-dir must name a finished run.", file=sys.stderr)
        return USAGE_ERROR
    try:
        encoder = keras.saving.load_model(model_file, compile=False, safe_mode=True)
        export_saved_model(encoder, options.out)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    print(f"{options.out}: {encoder.code_length}-bit encoder of {encoder.image_size} x {encoder.image_size} images.")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(SavedModelExport)))
