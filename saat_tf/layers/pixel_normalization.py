"""Normalisation of pixels, inside the model."""

from collections.abc import Sequence

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="saat_tf")
class PixelNormalization(keras.layers.Layer):
    """Shift and scale pixels the way a backbone expects: (x - mean) / std, channel by channel.

    It is a layer so that everything outside of a model, attacks above all, sees pixels in [0, 1].

    Args:
        mean: three floats in pixel units of [0, 1].
        std: three positive floats in pixel units of [0, 1].

    Returns:
        float tensor (B, H, W, 3), of any range.

    Raises:
        ValueError: there are not three values each, or one of `std` is not positive.

    Example:
        >>> PixelNormalization([0.5] * 3, [0.25] * 3)(tf.ones((1, 1, 1, 3))).numpy().ravel().tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs) -> None:
        super().__init__(**kwargs)
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
            raise ValueError(
                "`mean` and `std` must have three values each, those of `std` positive. Received: "
                f"{list(mean)} and {list(std)}."
            )
        self.mean = list(mean)
        self.std = list(std)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Normalise `images` (B, H, W, 3)."""
        return (images - tf.constant(self.mean, images.dtype)) / tf.constant(self.std, images.dtype)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "mean": self.mean, "std": self.std}
