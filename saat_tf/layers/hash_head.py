"""The last layer of a hashing model."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers.orthogonal import Orthogonal


@keras.saving.register_keras_serializable(package="saat_tf")
class HashHead(keras.layers.Layer):
    """Map features to logits z = W f + b and relaxed codes h = tanh(alpha z) in [-1, 1]^K.

    The sign of h is the sign of z, so alpha changes gradients and never codes. It is a call argument because attacks
    and losses choose it, the layer does not.

    Args:
        code_length: K, the number of bits, at least 1.
        orthogonal: whether the columns of W are kept orthonormal, so that z moves no further in L2 than f.

    Returns:
        float tensor (B, K) in [-1, 1].

    Raises:
        ValueError: `code_length` is below 1.

    Example:
        >>> HashHead(16)(tf.zeros((2, 8)), alpha=0.1).shape
        TensorShape([2, 16])
    """

    def __init__(self, code_length: int, *, orthogonal: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if code_length < 1:
            raise ValueError(f"`code_length` must be at least 1 bit. Received: {code_length}.")
        self.code_length = code_length
        self.orthogonal = orthogonal
        kept = {"kernel_initializer": "orthogonal", "kernel_constraint": Orthogonal()} if orthogonal else {}
        self.projection = keras.layers.Dense(code_length, name="projection", dtype=self.dtype_policy, **kept)

    def build(self, input_shape: tuple) -> None:
        """Create W (F, K) and b (K,)."""
        self.projection.build(input_shape)
        super().build(input_shape)

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Return z: float (B, F) -> (B, K), before the tanh."""
        return self.projection(features)

    def call(self, features: tf.Tensor, alpha: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Return h = tanh(alpha z): float (B, F) -> (B, K)."""
        return tf.tanh(alpha * self.logits(features))

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "code_length": self.code_length, "orthogonal": self.orthogonal}
