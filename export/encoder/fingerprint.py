"""Fingerprint of a model: its codes of fixed images, since codes of two models are not comparable."""

from collections.abc import Callable

import numpy as np

IMAGES, TILES, TILE = 16, 8, 8
# The same model on another processor differs in a few bits near zero; another model differs in many.
SAME_BITS = 0.99


def fingerprint_images() -> np.ndarray:
    """Draw the images of the fingerprint: uint8 (16, 64, 64, 3), tiles of one color each, always the same."""
    stream = np.random.PCG64(0).random_raw(
        IMAGES * TILES * TILES * 3 // 8
    )  # NumPy guarantees that this stream stays the same
    colors = stream.astype("<u8").view(np.uint8).reshape(IMAGES, TILES, TILES, 3)
    return colors.repeat(TILE, axis=1).repeat(TILE, axis=2)


def fingerprint(encode_bytes: Callable) -> str:
    """Return the fingerprint of a SavedModel: hexadecimal digits of its packed codes of the drawn images.

    Args:
        encode_bytes: the signature of `export.saved_model`.
    """
    import tensorflow as tf

    files = tf.stack([tf.io.encode_png(image) for image in fingerprint_images()])
    return encode_bytes(image_bytes=files)["packed_codes"].numpy().tobytes().hex()


def check_same_model(expected: str, received: str, what: str) -> None:
    """Raise `ValueError` unless two fingerprints are of one model; an empty one matches any model.

    Example:
        >>> check_same_model("00ff", "ff00", "queries")
        Traceback (most recent call last):
        ValueError: The queries are of another model than the index: ...
    """
    if not expected or not received:
        return
    one, other = bytes.fromhex(expected), bytes.fromhex(received)
    share = 0.0
    if len(one) == len(other):
        share = 1 - np.bitwise_count(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).sum() / 8 / len(one)
    if share < SAME_BITS:
        raise ValueError(
            f"The {what} are of another model than the index: {share:.0%} of the bits agree that both give to the same "
            "drawn images. Use the model of the index, or build an index of the new model's codes."
        )
