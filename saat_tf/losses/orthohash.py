"""OrthoHash: one softmax over the cosines with a fixed code for each class."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses.hashing_loss import HashingLoss
from saat_tf.replicas import gather

# Added to the variance of a bit, as PyTorch's batch norm does.
EPSILON = 1e-5


def soft_label_loss(class_logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Compute -1/B sum_ic (y_ic / |y_i|) log softmax(a_i)_c: the cross-entropy with evenly shared labels.

    Args:
        class_logits: a, float (B, C).
        labels: y, float (B, C) of 0/1. A row without labels adds 0.

    Returns:
        Scalar, at least 0.

    Example:
        >>> round(float(soft_label_loss(tf.zeros((1, 4)), tf.constant([[1.0, 1.0, 0.0, 0.0]]))), 4)  # log 4
        1.3863
    """
    shares = tf.math.divide_no_nan(labels, tf.reduce_sum(labels, axis=1, keepdims=True))
    return -tf.reduce_mean(tf.reduce_sum(shares * tf.nn.log_softmax(class_logits), axis=1))


def orthohash_loss(codes: tf.Tensor, labels: tf.Tensor, codebook: tf.Tensor, margin: float, scale: float) -> tf.Tensor:
    """Compute `soft_label_loss` of the logits scale * ( cos(v_i, c_c) - margin * y_ic ).

    Args:
        codes: v, float (B, K), of any length.
        labels: y, float (B, C) of 0/1.
        codebook: c, float (C, K) of -1/+1.
        margin: m, by which the cosine with an own class must exceed the others.
        scale: s, above 0.

    Returns:
        Scalar, at least 0.

    Example:
        >>> loss = orthohash_loss(tf.constant([[3.0, 3.0]]), tf.eye(2)[:1], tf.constant([[1.0, 1], [1, -1]]), 0.0, 8.0)
        >>> round(float(loss), 6)  # log(1 + e^-8)
        0.000335
    """
    cosine = tf.matmul(  # (B, K) @ (K, C) -> (B, C)
        tf.math.l2_normalize(codes, axis=1), tf.math.l2_normalize(codebook, axis=1), transpose_b=True
    )
    return soft_label_loss(scale * (cosine - margin * labels), labels)


@keras.saving.register_keras_serializable(package="saat_tf")
class OrthoHash(HashingLoss):
    """`orthohash_loss` of batch-normalized relaxed codes with a fixed random code for each class.

    v = gamma (h - mean) / sqrt(variance + 1e-5) + beta, mean and variance of each bit in the batch; gamma and beta
    are trained beside the encoder.

    Args:
        num_classes: C.
        code_length: K.
        margin: m; 0.2 in the paper's code and in the SAAT authors' comparison.
        scale: s; 8 as there.
        seed: seed of the codebook.

    References:
        Hoe et al., "One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning Objective",
        NeurIPS 2021.

    Differs from the authors' code: as in the SAAT authors' comparison, batch norm follows a tanh and belongs to the
    loss; the hash code is the sign of the logits, where OrthoHash takes the sign of the normalized ones. An image
    without labels adds nothing, where theirs divides by zero.
    """

    def __init__(
        self,
        num_classes: int,
        code_length: int,
        *,
        margin: float = 0.2,
        scale: float = 8.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.code_length = code_length
        self.margin = margin
        self.scale = scale
        self.seed = seed
        self.codebook = tf.constant(
            np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), (num_classes, code_length))
        )
        self.gamma = self.add_weight(name="gamma", shape=(code_length,), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(code_length,), initializer="zeros")

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C); the bank is not read."""
        relaxed_codes, labels = gather(relaxed_codes), gather(labels)  # moments of the whole batch
        mean, variance = tf.nn.moments(relaxed_codes, axes=[0])
        beta, gamma = tf.convert_to_tensor(self.beta), tf.convert_to_tensor(self.gamma)
        normalized = tf.nn.batch_normalization(relaxed_codes, mean, variance, beta, gamma, EPSILON)
        return orthohash_loss(normalized, labels, self.codebook, self.margin, self.scale)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "code_length": self.code_length,
            "margin": self.margin,
            "scale": self.scale,
            "seed": self.seed,
        }
