"""Codes other than the mainstay code that attacks let stand for a label set: the center code and the anchor code."""

import tensorflow as tf

from saat_tf.codes import sign
from saat_tf.mainstay import TIE_TOLERANCE
from saat_tf.random_numbers import uniform

# Jaccard similarities of label sets of up to some hundred labels differ by more than this where they differ.
SAME_SIMILARITY = 1e-6


def jaccard(labels: tf.Tensor, other_labels: tf.Tensor) -> tf.Tensor:
    """Compute |y and y'| / |y or y'| for each pair of label rows; 0 where both are empty.

    Args:
        labels: (B, C) of 0/1.
        other_labels: (M, C) of 0/1.

    Returns:
        float64 (B, M) in [0, 1].

    Example:
        >>> jaccard([[1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]).numpy().tolist()
        [[0.5, 1.0]]
    """
    labels, other_labels = tf.cast(labels, tf.float64), tf.cast(other_labels, tf.float64)
    shared = tf.matmul(labels, other_labels, transpose_b=True)  # (B, C) @ (C, M) -> (B, M)
    either = tf.reduce_sum(labels, axis=1)[:, None] + tf.reduce_sum(other_labels, axis=1) - shared
    return tf.math.divide_no_nan(shared, either)


def center_codes(
    labels: tf.Tensor, bank_labels: tf.Tensor, bank_code_sums: tf.Tensor, bank_counts: tf.Tensor
) -> tf.Tensor:
    """Compute CgAT's center code of each label row against a bank of codes.

        b_c = sign( 1/N_p sum_i w_i b_i  -  1/N_n sum_j b_j ),   w_i = |y and y_i| / |y or y_i|

    with i over the N_p items that share a label and j over the N_n that do not; a side without items contributes zero.

    Args:
        labels: (B, C) of 0/1.
        bank_labels: (M, C) of 0/1, one row a label set.
        bank_code_sums: (M, K), the sum of the +-1 codes of the items of each set.
        bank_counts: (M,), the number of items of each set.

    Returns:
        float32 (B, K), every entry -1 or +1; exact ties are +1.

    Example:
        >>> center_codes([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[2.0, -2.0], [-1.0, -1.0]], [2.0, 1.0]).numpy()
        array([[1., 1.]], dtype=float32)

    References:
        Wang et al., "CgAT: Center-Guided Adversarial Training for Deep Hashing-Based Retrieval", WWW 2023. Its released
        code weighs related items by 1.
    """
    similarity = jaccard(labels, bank_labels)
    sums, counts = tf.cast(bank_code_sums, tf.float64), tf.cast(bank_counts, tf.float64)
    related = tf.cast(similarity > 0, tf.float64)
    unrelated = 1.0 - related

    def mean(weights: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
        total = tf.linalg.matvec(members, counts)[:, None]  # (B, M) @ (M,) -> (B, 1)
        return tf.math.divide_no_nan(tf.matmul(weights, sums), total)  # (B, M) @ (M, K) -> (B, K)

    scores = mean(similarity, related) - mean(unrelated, unrelated)
    scores = tf.where(tf.abs(scores) <= TIE_TOLERANCE, tf.zeros_like(scores), scores)
    return tf.cast(sign(scores), tf.float32)


def anchor_codes(
    labels: tf.Tensor, item_labels: tf.Tensor, item_codes: tf.Tensor, num_voters: int, seed: tf.Tensor
) -> tf.Tensor:
    """Compute DHTA's anchor code: the vote of some items that carry the label set.

        b_a = sign( b_1 + ... + b_n ),  b_i drawn without replacement from the items whose labels equal y

    Where no item carries exactly y, the items most like it by `jaccard` vote; where fewer than n are as like, those do.
    A y without labels is like none, so that n items of the whole bank vote.

    Args:
        labels: (B, C) of 0/1.
        item_labels: (N, C) of 0/1.
        item_codes: (N, K) of -1/+1.
        num_voters: n; 9 in DHTA, 1 in P2P.
        seed: int (2,), of the draw.

    Returns:
        float32 (B, K), every entry -1 or +1; a vote of zero is +1.

    Raises:
        ValueError: `num_voters` is below 1.

    Example:
        >>> labels, codes = tf.eye(2), tf.constant([[1.0, -1.0], [-1.0, -1.0]])
        >>> anchor_codes(labels, labels, codes, 9, tf.constant([0, 0])).numpy().tolist()
        [[1.0, -1.0], [-1.0, -1.0]]

    References:
        Bai et al., "Targeted Attack for Deep Hashing based Retrieval", ECCV 2020, Theorem 1.
    """
    if num_voters < 1:
        raise ValueError(f"`num_voters` must be at least 1. Received: {num_voters}. DHTA has 9, P2P has 1.")
    similarity = jaccard(labels, item_labels)  # (B, N)
    nearest = similarity >= tf.reduce_max(similarity, axis=1, keepdims=True) - SAME_SIMILARITY
    lots = tf.where(nearest, uniform(tf.shape(similarity), seed), -1.0)
    drawn, voters = tf.math.top_k(lots, tf.minimum(num_voters, tf.shape(lots)[1]))  # (B, n)
    votes = tf.gather(tf.cast(item_codes, tf.float32), voters) * tf.cast(drawn >= 0, tf.float32)[..., None]
    return sign(tf.reduce_sum(votes, axis=1))  # (B, n, K) -> (B, K)
