"""Loaded SavedModel of an encoder: image files in, packed codes out."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A SavedModel of `export.saved_model`.

    Args:
        folder: where it lies.
        code_length: K.
        encode_bytes: its signature.
    """

    folder: Path
    code_length: int
    encode_bytes: Callable

    def encode(self, contents: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Encode files of images: packed codes, uint8 (B, K / 8), and whether each was read, bool (B,)."""
        encoded = self.encode_bytes(image_bytes=tf.constant(contents, tf.string, (len(contents),)))
        return encoded["packed_codes"].numpy(), encoded["ok"].numpy()


def model_folder(path: Path) -> Path:
    """Return the SavedModel at a path: the folder itself, or the newest version in it.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    versions = [path] if (path / "saved_model.pb").is_file() else []
    if path.is_dir():
        numbered = (
            entry for entry in path.iterdir() if entry.name.isdecimal() and (entry / "saved_model.pb").is_file()
        )
        versions += sorted(numbered, key=lambda entry: int(entry.name))
    if not versions:
        raise FileNotFoundError(f"{path}: not a SavedModel. Make one: python -m export.saved_model.")
    return versions[-1]


def load_encoder(path: Path) -> Encoder:
    """Load a SavedModel.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or has no signature encode_bytes.
    """
    folder = model_folder(path)
    try:
        model = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{folder}: the model cannot be read ({error}). Export it again.") from error
    if "encode_bytes" not in model.signatures:
        raise ValueError(
            f"{folder}: the model has no signature encode_bytes. Export it by python -m export.saved_model."
        )
    signature = model.signatures["encode_bytes"]
    return Encoder(folder, 8 * signature.structured_outputs["packed_codes"].shape[1], signature)


def model_digest(folder: Path) -> str:
    """Hash the graph and the weights of a SavedModel."""
    digest = hashlib.sha256()
    for file in [folder / "saved_model.pb", *sorted((folder / "variables").glob("variables.*"))]:
        digest.update(file.name.encode())
        with open(file, "rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
