"""Normalization of pixels, inside the model."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

CHANNEL_ORDERS = ("rgb", "bgr")


@keras.saving.register_keras_serializable(package="saat_tf")
class PixelNormalization(keras.layers.Layer):
    """Shift and scale pixels the way a backbone expects: (x - mean) / std, channel by channel.

    It is a layer so that everything outside of a model, attacks above all, sees pixels in [0, 1], red first.

    Args:
        mean: three floats in pixel units of [0, 1], for red, green and blue.
        std: three positive floats in pixel units of [0, 1], for red, green and blue.
        channel_order: "rgb" leaves the channels in their order; "bgr" turns it round, for networks that expect so.

    Returns:
        float tensor (B, H, W, 3), of any range.

    Raises:
        ValueError: there are not three values each, one of `std` is not positive, or there is no such order.

    Example:
        >>> PixelNormalization([0.5] * 3, [0.25] * 3)(tf.ones((1, 1, 1, 3))).numpy().ravel().tolist()
        [2.0, 2.0, 2.0]
        >>> PixelNormalization([0.0] * 3, [1.0] * 3, "bgr")(tf.reshape([0.0, 0.5, 1.0], (1, 1, 1, 3))).numpy().ravel()
        array([1. , 0.5, 0. ], dtype=float32)
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], channel_order: str = "rgb", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
            raise ValueError(
                "`mean` and `std` must have three values each, those of `std` positive. Received: "
                f"{list(mean)} and {list(std)}."
            )
        if channel_order not in CHANNEL_ORDERS:
            raise ValueError(
                f"`channel_order` must be one of {', '.join(CHANNEL_ORDERS)}. Received: {channel_order!r}."
            )
        self.mean = list(mean)
        self.std = list(std)
        self.channel_order = channel_order

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Normalize `images` (B, H, W, 3)."""
        normalized = (images - tf.constant(self.mean, images.dtype)) / tf.constant(self.std, images.dtype)
        return tf.reverse(normalized, axis=[-1]) if self.channel_order == "bgr" else normalized

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "mean": self.mean, "std": self.std, "channel_order": self.channel_order}
