"""The mainstay code: the one hash code that stands for a label set, in closed form."""

import tensorflow as tf

from saat_tf.codes import sign

# A score this small beside its terms is the float64 rounding of an exact tie, and a tie is +1 like any sign(0).
TIE_TOLERANCE = 1e-12


def mainstay_codes(
    labels: tf.Tensor, bank_labels: tf.Tensor, bank_code_sums: tf.Tensor, bank_counts: tf.Tensor
) -> tf.Tensor:
    """Compute the mainstay code of each label row against a bank of codes.

    With w_i = y.y_i / (|y| |y_i|) for items that share a label and n_i = 1[y.y_i = 0] for those that do not,

        b_m = sign( sum_i w_i b_i / sum_i w_i  -  sum_i n_i b_i / sum_i n_i ),

    a side whose weights sum to zero contributing zero. It minimises over {-1, +1}^K the weighted Hamming distance
    to related items minus that to unrelated ones (Theorem 1). Both weights depend on an item only through its label
    set, so the bank is given as its M distinct label sets with the sum of the codes of each. The sums are integers,
    hence exact, and the result does not depend on the order of the items. Direct use on N items is
    `mainstay_codes(labels, item_labels, item_codes, tf.ones(N))`.

    Args:
        labels: (B, C) of 0/1. A row without labels has no related items: its code is opposite to the bank's majority.
        bank_labels: (M, C) of 0/1, one row a label set; a set without labels is unrelated to everything.
        bank_code_sums: (M, K), the sum of the +-1 codes of the items of each set.
        bank_counts: (M,), the number of items of each set.

    Returns:
        float32 (B, K), every entry -1 or +1; exact ties are +1.

    Example:
        >>> codes = tf.constant([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])
        >>> item_labels = tf.constant([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> mainstay_codes(tf.constant([[1.0, 0.0]]), item_labels, codes, tf.ones(3)).numpy().tolist()
        [[1.0, -1.0]]

    References:
        Yuan et al., "Semantic-Aware Adversarial Training for Reliable Deep Hashing Retrieval", IEEE TIFS 2023,
        arXiv 2310.14637, Theorem 1.
    """
    labels, bank_labels, sums, counts = (
        tf.cast(x, tf.float64) for x in (labels, bank_labels, bank_code_sums, bank_counts)
    )
    shared = tf.matmul(labels, bank_labels, transpose_b=True)  # (B, C) @ (C, M) -> (B, M)
    # |y| scales every w_i of a row alike and cancels in the quotient.
    positive = tf.math.divide_no_nan(shared, tf.sqrt(tf.reduce_sum(bank_labels, axis=1)))  # (B, M)
    negative = tf.cast(shared == 0, tf.float64)
    scores = _weighted_mean(positive, sums, counts) - _weighted_mean(negative, sums, counts)  # (B, K)
    scores = tf.where(tf.abs(scores) <= TIE_TOLERANCE, tf.zeros_like(scores), scores)
    return tf.cast(sign(scores), tf.float32)


def _weighted_mean(weights: tf.Tensor, sums: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Return sum_i w_i b_i / sum_i w_i over the items, zero where the weights sum to zero."""
    total = tf.linalg.matvec(weights, counts)[:, None]  # (B, M) @ (M,) -> (B, 1)
    return tf.math.divide_no_nan(tf.matmul(weights, sums), total)  # (B, M) @ (M, K) -> (B, K)
