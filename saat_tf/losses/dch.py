"""DCH: a pairwise likelihood by the Cauchy distribution, which wants relevant codes within a few bits."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses.hashing_loss import HashingLoss
from saat_tf.losses.pairs import mean_over
from saat_tf.replicas import gather

# In bits. Unrelated codes nearer than this count as this near: at zero the logarithm has no value.
MIN_DISTANCE = 1e-3


def soft_distance(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Compute d(h_i, h_j) = K/2 (1 - cos(h_i, h_j)), the Hamming distance where both are hash codes.

    Args:
        first: float (B, K).
        second: float (N, K).

    Returns:
        float (B, N) in [0, K].

    Example:
        >>> float(soft_distance(tf.constant([[1.0, -1.0]]), tf.constant([[1.0, 1.0]]))[0, 0])
        1.0
    """
    cosine = tf.matmul(  # (B, K) @ (K, N) -> (B, N)
        tf.math.l2_normalize(first, axis=1), tf.math.l2_normalize(second, axis=1), transpose_b=True
    )
    code_length = tf.cast(tf.shape(first)[1], cosine.dtype)
    return tf.nn.relu(code_length / 2.0 * (1.0 - cosine))


def dch_loss(relaxed_codes: tf.Tensor, relevance: tf.Tensor, gamma: float, quantization: float) -> tf.Tensor:
    """Compute the Cauchy cross-entropy of the batch's pairs and the Cauchy distance of the codes from +-1.

        1/|S| sum_ij w_ij ( s_ij log(d_ij / gamma) + log(1 + gamma / d_ij) )
            + quantization * mean_i log(1 + d(|h_i|, 1) / gamma)

    S are the pairs i != j; w_ij = |S|/|S1| for relevant ones and |S|/|S0| for the others, as in HashNet. Of a relevant
    pair the term is log(1 + d/gamma), which is how it is computed.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        relevance: s, float (B, B) of 0/1: 1 where the two share a label. The diagonal is not read.
        gamma: scale of the Cauchy distribution in bits, above 0.
        quantization: lambda, at least 0.

    Returns:
        Scalar, at least 0; 0 for a batch of one hash code.

    Example:
        >>> round(float(dch_loss(tf.ones((2, 8)), tf.zeros((2, 2)), gamma=20.0, quantization=0.1)), 1)  # log(1 + 2e4)
        9.9
    """
    distance = soft_distance(relaxed_codes, relaxed_codes)  # (B, B)
    others = 1.0 - tf.eye(tf.shape(distance)[0], dtype=distance.dtype)
    related = tf.math.log1p(distance / gamma)
    unrelated = tf.math.log1p(gamma / tf.maximum(distance, MIN_DISTANCE))
    cauchy = mean_over(related, others * relevance) + mean_over(unrelated, others * (1.0 - relevance))
    to_codes = soft_distance(tf.abs(relaxed_codes), tf.ones_like(relaxed_codes[:1]))  # (B, 1)
    return cauchy + quantization * tf.reduce_mean(tf.math.log1p(to_codes / gamma))


@keras.saving.register_keras_serializable(package="saat_tf")
class DCH(HashingLoss):
    """`dch_loss` of the pairs in a batch.

    Args:
        gamma: scale in bits; 20 as in the CgAT authors' comparison.
        quantization: lambda; 0.1 as there.

    References:
        Cao et al., "Deep Cauchy Hashing for Hamming Space Retrieval", CVPR 2018, equations 2 and 6 to 9.

    Differs from the CgAT authors' code: an image is no pair with itself, and unrelated codes closer than 1 % of the
    bits are still pushed apart, where their clipped cosine has no slope.
    """

    def __init__(self, *, gamma: float = 20.0, quantization: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gamma = gamma
        self.quantization = quantization

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C); the bank is not read."""
        relaxed_codes, labels = gather(relaxed_codes), gather(labels)  # pairs of the whole batch
        shared = tf.matmul(labels, labels, transpose_b=True)  # (B, C) @ (C, B) -> (B, B)
        relevance = tf.cast(shared > 0, relaxed_codes.dtype)
        return dch_loss(relaxed_codes, relevance, self.gamma, self.quantization)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "gamma": self.gamma, "quantization": self.quantization}
