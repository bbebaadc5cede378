"""Pooling of any size of image into a fixed number of cells, in front of the dense layers of AlexNet and VGG."""

import math
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="saat_tf")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Average an image of any size into a square of `side` x `side` cells, as PyTorch's AdaptiveAvgPool2d does.

    Cell i averages the rows from floor(i H / side) up to, not including, ceil((i + 1) H / side), and likewise the
    columns. Cells overlap where `side` does not divide H; below `side` rows, rows are repeated.

    `keras.layers.AdaptiveAveragePooling2D` gives the same values, but in a graph it fails on inputs of one pixel,
    which is what AlexNet leaves of images of 63 to 94 pixels and VGG of 32 to 63.

    Args:
        side: cells a side, positive.

    Returns:
        float tensor (B, side, side, C).

    Raises:
        ValueError: `side` is not positive.

    Example:
        >>> AdaptiveAveragePooling(2)(tf.reshape([1.0, 2, 3], (1, 1, 3, 1))).numpy().ravel().tolist()
        [1.5, 2.5, 1.5, 2.5]
    """

    def __init__(self, side: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if side < 1:
            raise ValueError(f"`side` must be positive. Received: side={side}.")
        self.side = side

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Pool `images` (B, H, W, C)."""
        _, height, width, _ = images.shape
        if (height, width) == (self.side, self.side):
            return images
        # Slices and means rather than a product with a matrix of weights: TFLite cannot allocate that product's
        # reshapes when the batch size is unknown.
        rows = [tf.reduce_mean(images[:, a:b], axis=1, keepdims=True) for a, b in _cells(height, self.side)]
        pooled = tf.concat(rows, axis=1)  # (B, H, W, C) -> (B, side, W, C)
        columns = [tf.reduce_mean(pooled[:, :, a:b], axis=2, keepdims=True) for a, b in _cells(width, self.side)]
        return tf.concat(columns, axis=2)  # (B, side, W, C) -> (B, side, side, C)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "side": self.side}


def _cells(length: int, count: int) -> list[tuple[int, int]]:
    """Return where each of `count` cells over `length` places starts and, exclusively, ends."""
    return [(cell * length // count, math.ceil((cell + 1) * length / count)) for cell in range(count)]
