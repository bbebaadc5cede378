"""Rows of a code bank for items that come without an index."""

import dataclasses

import numpy as np
import tensorflow as tf

from saat_tf.labels import UNKNOWN_LABELS, UNKNOWN_REMEDY
from saat_tf.layers import CodeBank


@dataclasses.dataclass(frozen=True)
class BankRows:
    """The rows of each label set of a bank, to be taken in turn.

    All that is computed from a bank depends on an item through its label set and its code: which of the items of one
    label set has which of their rows is never read. An item without an index can therefore have the next row of its
    label set, so that new codes replace the oldest ones of that set. A pass over a data set that has each item once, in
    any order, sets each row once; at its end the bank contains the codes that it would contain by index.

    Args:
        label_sets: float32 (M, C) of 0/1.
        rows: int64 (N,), the bank's rows in the order of their label sets.
        starts: int64 (M,), the place in `rows` at which those of a set begin.
        counts: int64 (M,), how many there are.

    Example:
        >>> bank = BankRows.of(CodeBank.from_labels(np.eye(2)[[0, 1, 0]], code_length=8))
        >>> taken, rows = bank.take(bank.none_taken(), tf.constant([[1.0, 0.0], [1.0, 0.0]]))
        >>> rows.numpy().tolist(), bank.take(taken, tf.constant([[1.0, 0.0], [0.0, 1.0]]))[1].numpy().tolist()
        ([0, 2], [0, 1])
    """

    label_sets: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, bank: CodeBank) -> "BankRows":
        """Read the rows of a bank."""
        set_index = bank.set_index.numpy()
        counts = np.bincount(set_index, minlength=bank.num_label_sets)
        rows = np.argsort(set_index, kind="stable")
        return cls(bank.label_sets.numpy(), rows, np.cumsum(counts) - counts, counts)

    def none_taken(self) -> tf.Tensor:
        """Return how many rows of each set were taken at the beginning: int64 (M,) of zeros."""
        return tf.zeros(len(self.counts), tf.int64)

    def take(self, taken: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Take a row for each item of a batch.

        Args:
            taken: int64 (M,), how many rows of each set were taken before.
            labels: float32 (B, C) of 0/1.

        Returns:
            `taken` with this batch, and the rows, int64 (B,).

        Raises:
            ValueError: the bank has no item with the labels of one; in a graph
                `tf.errors.InvalidArgumentError` with the same text.
        """
        label_sets = tf.constant(self.label_sets)
        shared = tf.matmul(labels, label_sets, transpose_b=True)  # (B, C) @ (C, M) -> (B, M)
        same = (shared == tf.reduce_sum(labels, axis=1)[:, None]) & (shared == tf.reduce_sum(label_sets, axis=1))
        known = tf.reduce_all(tf.reduce_any(same, axis=1))
        if tf.executing_eagerly():
            if not known:
                raise ValueError(f"{UNKNOWN_LABELS} {UNKNOWN_REMEDY}")
        else:
            with tf.control_dependencies([tf.debugging.Assert(known, [f"{UNKNOWN_LABELS} {UNKNOWN_REMEDY}"])]):
                same = tf.identity(same)
        sets = tf.argmax(same, axis=1)  # (B,)
        before = tf.linalg.band_part(tf.cast(sets[:, None] == sets, tf.int64), -1, 0)  # (B, B), itself included
        place = tf.gather(taken, sets) + tf.reduce_sum(before, axis=1) - 1
        starts, counts = tf.gather(self.starts, sets), tf.gather(self.counts, sets)
        rows = tf.gather(tf.constant(self.rows), starts + place % counts)
        return tf.tensor_scatter_nd_add(taken, sets[:, None], tf.ones_like(sets)), rows


def rows_of_items(bank: CodeBank, labels: np.ndarray, *, in_order: bool) -> np.ndarray:
    """Return a row of the bank for each item of a whole data set: int64 (N,), each row once.

    Args:
        bank: with N items.
        labels: (N, C) of 0/1.
        in_order: whether item i must be the bank's item i; otherwise any row of its label set is its own.

    Raises:
        ValueError: the data set is not the one that the bank is of.
    """
    own = bank.label_sets.numpy()[bank.set_index.numpy()]
    order, own_order = np.arange(len(labels)), np.arange(len(own))
    if not in_order:
        order, own_order = (np.lexsort(rows.T) for rows in (labels, own))
    if own.shape != labels.shape or not np.array_equal(labels[order], own[own_order]):
        raise ValueError(
            f"The data set must have the items of the code bank{', in its order' if in_order else ''}: "
            f"{len(own)} items of {own.shape[1]} classes, with the same labels. Received: {len(labels)} items of "
            f"{labels.shape[1]} classes{'' if own.shape != labels.shape else ', with other labels'}. {UNKNOWN_REMEDY}"
        )
    rows = np.empty(len(labels), np.int64)
    rows[order] = own_order
    return rows
