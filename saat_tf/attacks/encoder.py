"""Encoder as an attack sees it, and the one check of it."""

import inspect
from collections.abc import Callable
from typing import Protocol

import keras
import tensorflow as tf


class Encoder(Protocol):
    """Model as an attack sees it: relaxed codes (B, K) in [-1, 1]. `saat_tf.as_encoder` makes one of other models."""

    def __call__(self, images: tf.Tensor, alpha: float | tf.Tensor, training: bool) -> tf.Tensor:
        """Return h = tanh(alpha z) of images float32 (B, H, W, 3) in [0, 1]."""


def check_encoder(encoder: Encoder) -> None:
    """Raise `ValueError` unless `encoder` is called with `alpha`.

    A Keras model takes any keyword and drops what it does not know, so that an attack would ascend on numbers that are
    no relaxed codes. Hence `alpha` must be named in the signature.

    Example:
        >>> check_encoder(lambda images, alpha, training: images)
        >>> check_encoder(keras.Sequential([keras.layers.Dense(8)]))
        Traceback (most recent call last):
        ValueError: An encoder is called as (images, alpha=..., training=...) and returns tanh(alpha z), (B, K). ...
    """
    called = encoder.call if isinstance(encoder, keras.Layer) else encoder
    if not callable(called) or "alpha" not in _parameters(called):
        raise ValueError(
            "An encoder is called as (images, alpha=..., training=...) and returns tanh(alpha z), (B, K). Received: "
            f"{_described(encoder)}, which takes no `alpha`. Wrap it: saat_tf.as_encoder(model)."
        )


def relaxed_codes(encoder: Encoder, images: tf.Tensor, alpha: float | tf.Tensor = 1.0) -> tf.Tensor:
    """Return h = tanh(alpha z) in inference mode: images (B, H, W, 3) -> float32 (B, K).

    Raises:
        ValueError: the encoder returns anything but one row of numbers for each image.
    """
    codes = tf.convert_to_tensor(encoder(images, alpha=alpha, training=False))
    if codes.shape.rank not in (2, None) or not codes.dtype.is_floating:
        raise ValueError(
            f"An encoder must return floats (batch, bits). Received: {codes.dtype.name} of shape {tuple(codes.shape)} "
            f"from {_described(encoder)}. Pool or flatten the features, and end with a dense layer."
        )
    return tf.cast(codes, tf.float32)


def check_code_length(codes: tf.Tensor, wanted_codes: tf.Tensor) -> None:
    """Raise `ValueError` where codes (..., K) and the codes that they are compared with differ in K."""
    length, wanted = codes.shape[-1], wanted_codes.shape[-1]
    if length != wanted and None not in (length, wanted):
        raise ValueError(
            f"Encoder and bank must have one code length. Received: an encoder of {length} bits and codes of {wanted}. "
            "Fill a bank of the encoder's code length with the encoder's own codes."
        )


def _parameters(called: Callable) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(called).parameters)
    except (TypeError, ValueError):  # some builtins have no signature
        return ()


def _described(encoder: object) -> str:
    return f"a {type(encoder).__name__}" + (f" ({encoder.name})" if isinstance(encoder, keras.Layer) else "")
