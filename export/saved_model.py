"""Write an encoder as a SavedModel: `python -m export.saved_model --run-dir R --out DIR --version 1`."""

import dataclasses
import sys
from pathlib import Path

import keras
import tensorflow as tf
import tyro

from export.encoder.source import EncoderSource
from saat_tf.command_line import ExitCode
from saat_tf.data.decoding.tolerant_decode import decode_batch
from saat_tf.files import atomic, write_json
from saat_tf.images import ImageSize, image_shape
from saat_tf.models import HashingModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedModelExport(EncoderSource):
    """Write an encoder as a SavedModel that returns packed codes. It contains the encoder alone.

    The encoder is that of a run (--run-dir), of a preset (--preset), or of a file (--keras-file).

    Signatures, each with the batch first:
      serving_default  images, float32 (batch, S, S, 3) in [0, 1]  ->  packed_codes, uint8 (batch, bits / 8);
                       ok, bool (batch,)
      encode_logits    the same images                             ->  logits, float32 (batch, bits); ok
      encode_bytes     image_bytes, string (batch,): JPEG, PNG, BMP, GIF (its first picture) or still WebP files
                       ->  packed_codes; code_bytes, the same bytes as a string; ok, bool (batch,)
    Packed codes are most significant bit first and bit for bit those of `HashingModel.encode`. A file that cannot be
    read, or an image with a pixel that is NaN or outside of [0, 1], has ok false and codes of zero;
    the other items of the batch are not affected.
    """

    out: Path
    """Folder to write. With --version, the folder of all versions, as TF Serving reads it."""
    version: int | None = None
    """Write into the folder OUT/VERSION."""


def export_saved_model(
    encoder: HashingModel,
    out: Path,
    *,
    resize_size: ImageSize | None = None,
    apply_orientation: bool = True,
    card: dict,
) -> None:
    """Write `encoder` as a SavedModel with the signatures that `SavedModelExport` lists.

    The folder has its final name only when it is complete.

    Args:
        encoder: the encoder; its code length is a multiple of 8.
        out: the folder to write.
        resize_size: shorter side of a file's image before the center cut, as in training, or the (height, width) that
            it then covers; the encoder's own size by default.
        apply_orientation: turn a file's image as its EXIF data say, as in training.
        card: the model card, written to assets.extra/model_card.json.

    Raises:
        FileExistsError: `out` exists.
        ValueError: the code length is not a multiple of 8.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists, and an export is never overwritten. Choose another --out or --version.")
    size = encoder.image_size
    resize_size = resize_size or size

    def only(encoded: dict[str, tf.Tensor], name: str) -> dict[str, tf.Tensor]:
        return {name: encoded[name], "ok": encoded["ok"]}

    def encode_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, ok = decode_batch(image_bytes, size, resize_size, apply_orientation=apply_orientation)
        packed_codes = encoder.encode_valid(images)["packed_codes"]
        packed_codes = tf.where(ok[:, None], packed_codes, tf.zeros_like(packed_codes))
        return {"packed_codes": packed_codes, "code_bytes": bytes_of(packed_codes), "ok": ok}

    pixels = [tf.TensorSpec((None, *image_shape(size)), tf.float32, name="images")]
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    archive.add_endpoint("serving_default", lambda images: only(encoder.encode_valid(images), "packed_codes"), pixels)
    archive.add_endpoint("encode_logits", lambda images: only(encoder.encode_valid(images), "logits"), pixels)
    archive.add_endpoint("encode_bytes", encode_bytes, [tf.TensorSpec((None,), tf.string, name="image_bytes")])
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(out) as folder:
        archive.write_out(folder, verbose=False)
        (folder / "assets.extra").mkdir()
        write_json(folder / "assets.extra" / "model_card.json", card)


def decoding_of(card: dict) -> dict:
    """Return how an exported encoder decodes files, by the model card: arguments of `export_saved_model`."""
    made = card["preprocessing"]
    return {"resize_size": made["resize_size"], "apply_orientation": made["orientation"] == "applied"}


def bytes_of(packed_codes: tf.Tensor) -> tf.Tensor:
    """Turn each row of packed codes, uint8 (B, K / 8), into a string of K / 8 bytes: (B,).

    Example:
        >>> bytes_of(tf.constant([[104, 105]], tf.uint8)).numpy().tolist()
        [b'hi']
    """
    table = tf.constant([bytes([value]) for value in range(256)])
    return tf.strings.reduce_join(tf.gather(table, tf.cast(packed_codes, tf.int32)), axis=1)


def main(options: SavedModelExport) -> int:
    """Export as `options` say; return the exit code: 0, or 2 where they are refused."""
    out = options.out if options.version is None else options.out / str(options.version)
    with ExitCode() as outcome:
        if options.version is not None and options.version < 1:
            raise ValueError(f"--version must be at least 1. Received: {options.version}.")
        encoder, card = options.load()
        export_saved_model(encoder, out, **decoding_of(card), card=card)
    if outcome.code:
        return outcome.code
    height, width, _ = image_shape(encoder.image_size)
    print(f"{out}: {encoder.code_length}-bit encoder of {height} x {width} images.")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(SavedModelExport)))
