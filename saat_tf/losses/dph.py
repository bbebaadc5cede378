"""DPH, the pairwise loss that the SAAT paper uses by default."""

import keras
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses.hashing_loss import HashingLoss


def dph_loss(relaxed_codes: tf.Tensor, bank_codes: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Compute mean_ij ( h_i . u_j / K - (2 s_ij - 1) )^2.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        bank_codes: u, float (N, K) in [-1, 1].
        relevance: s, float (B, N) of 0/1: 1 where the two share a label.

    Returns:
        Scalar in [0, 4].

    Example:
        >>> float(dph_loss(tf.ones((1, 8)), tf.ones((1, 8)), tf.ones((1, 1))))
        0.0
    """
    similarity = tf.matmul(relaxed_codes, bank_codes, transpose_b=True)  # (B, K) @ (K, N) -> (B, N)
    similarity /= tf.cast(tf.shape(relaxed_codes)[1], similarity.dtype)
    return tf.reduce_mean(tf.square(similarity - (2.0 * relevance - 1.0)))


@keras.saving.register_keras_serializable(package="saat_tf")
class DPH(HashingLoss):
    """`dph_loss` between a batch and the whole bank.

    References:
        Yuan et al., arXiv 2310.14637; the authors' code.
    """

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C)."""
        return dph_loss(relaxed_codes, tf.convert_to_tensor(code_bank.codes), code_bank.relevance(labels))
