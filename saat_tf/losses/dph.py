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


def dph_loss_of_bank(relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
    """Compute `dph_loss` between a batch and a whole bank from the bank's sums, at a cost without N.

    The square is a polynomial of u_j. With G = sum_j u_j u_j^T, T = sum_j u_j and R_i the part of T over the items
    relevant to i,

        mean_ij ( h_i.u_j/K - (2 s_ij - 1) )^2 = 1 + 1/(BN) sum_i ( h_i^T G h_i / K^2 - 2 h_i.(2 R_i - T) / K ).

    It is summed in float64, for near the minimum the terms cancel. Losses with log(1 + e^t), as DPSH and HashNet have,
    are no polynomial: each pair must be looked at.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        labels: float (B, C) of 0/1.
        code_bank: u and the labels of its items.

    Returns:
        float32 scalar in [0, 4].

    Example:
        >>> bank = CodeBank.from_labels(tf.eye(2), code_length=8)
        >>> bank.update(tf.constant([0, 1]), tf.constant([[1.0] * 8, [-1.0] * 8]))
        >>> float(dph_loss_of_bank(tf.ones((1, 8)), tf.constant([[1.0, 0.0]]), bank))
        0.0
    """
    h = tf.cast(relaxed_codes, tf.float64)
    products, set_sums = (tf.convert_to_tensor(x) for x in (code_bank.relaxed_products, code_bank.relaxed_sums))
    pull = 2.0 * code_bank.related_sums(labels) - tf.reduce_sum(set_sums, axis=0)  # 2 R - T: (B, K) - (K,) -> (B, K)
    code_length = tf.cast(tf.shape(h)[1], tf.float64)
    terms = tf.matmul(h, products) / code_length**2 - 2.0 * pull / code_length  # (B, K) @ (K, K) -> (B, K)
    pairs = tf.cast(tf.shape(h)[0], tf.float64) * code_bank.num_items
    return tf.cast(tf.maximum(1.0 + tf.reduce_sum(h * terms) / pairs, 0.0), tf.float32)


@keras.saving.register_keras_serializable(package="saat_tf")
class DPH(HashingLoss):
    """`dph_loss` between a batch and the whole bank, computed by `dph_loss_of_bank`.

    References:
        Yuan et al., arXiv 2310.14637; the authors' code.
    """

    def call(self, relaxed_codes: tf.Tensor, labels: tf.Tensor, code_bank: CodeBank) -> tf.Tensor:
        """Return the scalar loss of `relaxed_codes` (B, K) with 0/1 `labels` (B, C)."""
        return dph_loss_of_bank(relaxed_codes, labels, code_bank)
