"""The mainstay code: the one hash code that stands for a label set, in closed form."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from saat_tf.codes import sign
from saat_tf.label_subsets import SubsetSums, apart_from_subsets

# A score this small beside its terms is the float64 rounding of an exact tie, and a tie is +1 like any sign(0).
TIE_TOLERANCE = 1e-12
# The same for scores made of integer sums, where only the weights 1 / sqrt(size) and one addition a size round.
INTEGER_TIE_TOLERANCE = 1e-14


class CodeSums(NamedTuple):
    """Sums of the +-1 codes of a bank's items, from which a mainstay code follows at a cost without N.

    Tensors, or variables, which are read when they are needed. With M distinct label sets, C labels, and at most L
    labels an item. All are integers in float32, exact below 2^24.

    Args:
        label_sets: (M, C) of 0/1, one row a label set.
        set_sums: (M, K), over the items of each label set.
        set_counts: (M,), how many items each label set has.
        label_sums: (C * L, K): row c * L + l - 1 sums over the items of exactly l labels, one of which is c.
        label_counts: (C * L,), how many those are.
        subsets: sums by subsets of labels, where the bank keeps them.
    """

    label_sets: tf.Tensor | tf.Variable
    set_sums: tf.Tensor | tf.Variable
    set_counts: tf.Tensor | tf.Variable
    label_sums: tf.Tensor | tf.Variable
    label_counts: tf.Tensor | tf.Variable
    subsets: SubsetSums | None = None


def mainstay_codes(
    labels: tf.Tensor, bank_labels: tf.Tensor, bank_code_sums: tf.Tensor, bank_counts: tf.Tensor
) -> tf.Tensor:
    """Compute the mainstay code of each label row against a bank of codes.

    With w_i = y.y_i / (|y| |y_i|) for items that share a label and n_i = 1[y.y_i = 0] for those that do not,

        b_m = sign( sum_i w_i b_i / sum_i w_i  -  sum_i n_i b_i / sum_i n_i ),

    a side whose weights sum to zero contributing zero. It minimizes over {-1, +1}^K the weighted Hamming distance
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


def mainstay_codes_from_sums(labels: tf.Tensor, sums: CodeSums) -> tf.Tensor:
    """Compute the codes of `mainstay_codes` from running sums, at a cost a row that does not grow with the items.

    It is O(M (C + K)), or O(2^L K) where sums by subsets are kept and no row has more labels than an item.

    The positive side is linear in y: an item of l labels weighs 1 / sqrt(l) for each label that it shares (|y|
    cancels). With p_l and w_l the code sum and the count, over the labels of y, of the items of l labels, and q and n
    those of the items without a common label,

        b_m = sign( sum_l p_l / sqrt(l) / sum_l w_l / sqrt(l) - q / n ) = sign( sum_l (p_l n - q w_l) / sqrt(l) ).

    Sums are integers, exact in float32, and so are the brackets in float64: no rounding adds up with the items, and the
    difference of two sides that nearly cancel keeps every digit.

    Args:
        labels: (B, C) of 0/1.
        sums: what the bank contains.

    Returns:
        float32 (B, K), every entry -1 or +1; exact ties are +1.

    Example:
        >>> eye, codes, counts = tf.eye(2), tf.constant([[2.0, 2.0], [-1.0, 1.0]]), tf.constant([2.0, 1.0])
        >>> mainstay_codes_from_sums(eye, CodeSums(eye, codes, counts, codes, counts)).numpy().tolist()
        [[1.0, 1.0], [-1.0, 1.0]]
    """
    exact = _dtype_of_exact_products()
    labels, label_sums, label_counts = (tf.cast(x, exact) for x in (labels, sums.label_sums, sums.label_counts))
    num_classes, code_length = sums.label_sets.shape[1], sums.set_sums.shape[1]
    apart_sums, apart_counts = _apart(labels, sums)  # q, n
    shared_sums = tf.matmul(labels, tf.reshape(label_sums, (num_classes, -1)))  # (B, C) @ (C, L*K) -> (B, L*K)
    shared_sums = tf.reshape(shared_sums, (tf.shape(labels)[0], -1, code_length))  # p: (B, L*K) -> (B, L, K)
    shared_counts = tf.matmul(labels, tf.reshape(label_counts, (num_classes, -1)))  # w: (B, C) @ (C, L) -> (B, L)

    shared_sums, shared_counts = tf.cast(shared_sums, tf.float64), tf.cast(shared_counts, tf.float64)
    # Where nothing is apart, q is 0 as well and n = 1 leaves the positive side alone.
    terms = shared_sums * tf.maximum(apart_counts, 1.0)[:, None, None] - apart_sums[:, None] * shared_counts[..., None]
    weights = tf.constant(1.0 / np.sqrt(np.arange(1.0, 1 + label_counts.shape[0] // num_classes)))  # float64 (L,)
    scores = tf.einsum("l,blk->bk", weights, terms)
    rounding = INTEGER_TIE_TOLERANCE * tf.einsum("l,blk->bk", weights, tf.abs(terms))
    scores = tf.where(tf.abs(scores) <= rounding, tf.zeros_like(scores), scores)
    nothing_shared = tf.reduce_sum(shared_counts, axis=1, keepdims=True) == 0
    return tf.cast(sign(tf.where(nothing_shared, -apart_sums, scores)), tf.float32)


def _apart(labels: tf.Tensor, sums: CodeSums) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the code sum and the number of the items that share no label with a row: float64 (B, K) and (B,)."""

    def from_sets() -> tuple[tf.Tensor, tf.Tensor]:
        label_sets, set_sums, set_counts = (
            tf.cast(x, labels.dtype) for x in (sums.label_sets, sums.set_sums, sums.set_counts)
        )
        # The number of shared labels is 0, 1, 2 ...: one minus it is positive, and then 1, where none is shared.
        apart = tf.nn.relu(1.0 - tf.matmul(labels, label_sets, transpose_b=True))  # (B, C) @ (C, M) -> (B, M)
        totals = tf.matmul(apart, set_sums), tf.linalg.matvec(apart, set_counts)  # (B, K), (B,)
        return tuple(tf.cast(total, tf.float64) for total in totals)

    if sums.subsets is None:
        return from_sets()
    max_labels = sums.label_counts.shape[0] // sums.label_sets.shape[1]
    most = tf.reduce_max(tf.reduce_sum(labels, axis=1))
    return tf.cond(most <= max_labels, lambda: apart_from_subsets(labels, sums.subsets, max_labels), from_sets)


def label_places(label_sets: tf.Tensor, max_labels: int) -> tf.Tensor:
    """Tell to which rows of `CodeSums.label_sums` an item adds its code.

    Args:
        label_sets: (B, C) of 0/1, the labels of B items; at most L in a row.
        max_labels: L.

    Returns:
        float32 (B, C * L) of 0/1; a row without labels is all 0.

    Example:
        >>> label_places(tf.constant([[1.0, 1.0], [0.0, 1.0]]), max_labels=2).numpy().tolist()
        [[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
    """
    label_sets = tf.cast(label_sets, tf.float32)
    size = tf.one_hot(tf.cast(tf.reduce_sum(label_sets, axis=1) - 1.0, tf.int64), max_labels)  # (B, C) -> (B, L)
    places = label_sets[:, :, None] * size[:, None, :]  # (B, C, L)
    return tf.reshape(places, (-1, label_sets.shape[1] * max_labels))


def _dtype_of_exact_products() -> tf.DType:
    """Return a type whose matrix products of integers below 2^24 are exact.

    That is float32, except that a GPU may round its factors to the 11 bits of TF32.
    """
    return tf.float64 if tf.config.list_logical_devices("GPU") else tf.float32


def _weighted_mean(weights: tf.Tensor, sums: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Return sum_i w_i b_i / sum_i w_i over the items, zero where the weights sum to zero."""
    total = tf.linalg.matvec(weights, counts)[:, None]  # (B, M) @ (M,) -> (B, 1)
    return tf.math.divide_no_nan(tf.matmul(weights, sums), total)  # (B, M) @ (M, K) -> (B, K)
