"""The codes and labels of the training set, as training remembers them."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.codes import sign
from saat_tf.label_subsets import SubsetSums, subset_rows, worthwhile_subsets
from saat_tf.labels import check_labels
from saat_tf.mainstay import CodeSums, label_places
from saat_tf.replicas import gather

# Integers in float32 are exact up to here, and no sum over the items may be more.
MAX_ITEMS = 1 << 24


@keras.saving.register_keras_serializable(package="saat_tf")
class CodeBank(keras.layers.Layer):
    """Store the relaxed code and the labels of every training item, and running sums of their hash codes.

    DMFL reads sums of hash codes, DPH sums of relaxed codes, other pairwise losses the relaxed codes themselves. An
    update takes the item's old code from the sums and adds the new one, so that neither it nor DMFL nor DPH costs more
    with more items. Sums of hash codes are integers and never drift; those of relaxed codes are float64, which leaves
    float32 all its digits. The bank is state of the training: it is saved with a checkpoint and is no part of the
    exported encoder. Make one with `CodeBank.from_labels`; the constructor makes the empty shape that a saved bank is
    loaded into. Change codes by `update` alone.

    Codes start at zero, whose sign is +1: fill the bank with the model's codes before DMFL reads it.

    Args:
        num_items: N, training items, at most 2^24.
        num_label_sets: M, distinct rows among their labels.
        num_classes: C.
        code_length: K.
        max_labels: L, the most labels that an item has, at least 1.
        num_subsets: P, sets of labels that items carry among theirs; 0 where no sums are kept for them.

    Raises:
        ValueError: more than 2^24 items.

    Example:
        >>> bank = CodeBank.from_labels(np.eye(3, dtype="float32"), code_length=8)
        >>> bank.update(tf.constant([2]), -tf.ones((1, 8)))
        >>> bank.codes.numpy()[:, 0].tolist()
        [0.0, 0.0, -1.0]
        >>> bank.code_sums().numpy()[:, 0].tolist()  # label sets are sorted: {2}, {1}, {0}
        [-1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        num_items: int,
        num_label_sets: int,
        num_classes: int,
        code_length: int,
        *,
        max_labels: int,
        num_subsets: int = 0,
        dtype: str = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=dtype, **kwargs)
        if num_items > MAX_ITEMS:
            raise ValueError(
                f"A bank stores at most 2^24 = {MAX_ITEMS} items, beyond which its sums are not exact. Received: "
                f"{num_items}. Fill it with a sample."
            )
        self.num_items = num_items
        self.num_label_sets = num_label_sets
        self.num_classes = num_classes
        self.code_length = code_length
        self.max_labels = max_labels
        self.num_subsets = num_subsets
        # Synchronised updates (see `update`) keep the copies of all replicas equal.
        self.codes = self._table("codes", (num_items, code_length))
        self.label_sets = self._table("label_sets", (num_label_sets, num_classes))
        self.set_index = self._table("set_index", (num_items,), "int64")
        self.set_sums = self._table("set_sums", (num_label_sets, code_length))
        self.set_counts = self._table("set_counts", (num_label_sets,))
        self.label_sums = self._table("label_sums", (num_classes * max_labels, code_length))
        self.label_counts = self._table("label_counts", (num_classes * max_labels,))
        self.relaxed_sums = self._table("relaxed_sums", (num_label_sets, code_length), "float64")
        self.relaxed_products = self._table("relaxed_products", (code_length, code_length), "float64")
        if num_subsets:
            self.subset_keys = self._table("subset_keys", (num_subsets,), "int64")
            self.subset_sums = self._table("subset_sums", (num_subsets + 1, code_length))
            self.subset_counts = self._table("subset_counts", (num_subsets + 1,))
        self.built = True

    def _table(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> keras.Variable:
        # Read inside a layer of lower precision, a table would be cast to that without `autocast=False`.
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False, autocast=False
        )

    @classmethod
    def from_labels(cls, labels: np.ndarray, code_length: int, **kwargs: Any) -> "CodeBank":
        """Make a bank for training items with the given 0/1 `labels` (N, C).

        Raises:
            ValueError: `labels` is empty, not a matrix, or contains a value other than 0 and 1.
        """
        labels = check_labels(labels).astype(np.float32)
        if not labels.size:
            raise ValueError(f"`labels` must be of at least one item and class. Received: shape {labels.shape}.")
        label_sets, set_index = np.unique(labels, axis=0, return_inverse=True)
        return cls.from_label_sets(label_sets, set_index.reshape(-1), code_length, **kwargs)

    @classmethod
    def from_label_sets(
        cls, label_sets: np.ndarray, set_index: np.ndarray, code_length: int, **kwargs: Any
    ) -> "CodeBank":
        """Make a bank from M distinct 0/1 `label_sets` (M, C) and the set of each item, `set_index` (N,).

        It serves where the N label rows themselves do not fit in memory.
        """
        num_classes, sizes = label_sets.shape[1], label_sets.sum(axis=1)
        max_labels = max(1, int(sizes.max()))
        keys = worthwhile_subsets(label_sets, code_length)
        bank = cls(
            len(set_index),
            len(label_sets),
            num_classes,
            code_length,
            max_labels=max_labels,
            num_subsets=len(keys),
            **kwargs,
        )
        counts = np.bincount(set_index, minlength=len(label_sets))
        label_counts = np.stack(
            [counts[sizes == size] @ label_sets[sizes == size] for size in range(1, max_labels + 1)], axis=1
        ).reshape(-1)  # L of (C,) -> (C, L) -> (C * L,)
        bank.label_sets.assign(label_sets)
        bank.set_index.assign(set_index.astype(np.int64))
        bank.set_counts.assign(counts)
        bank.label_counts.assign(label_counts)
        # Every code starts as the sign of zero, +1.
        bank.set_sums.assign(np.repeat(counts[:, None], code_length, axis=1))
        bank.label_sums.assign(np.repeat(label_counts[:, None], code_length, axis=1))
        if len(keys):
            rows = subset_rows(tf.constant(label_sets, tf.float32), tf.constant(keys), max_labels).numpy()
            # float64 counts exactly beyond the size of a bank; the last row stays empty.
            subset_counts = np.bincount(rows.ravel(), np.repeat(counts, rows.shape[1]), minlength=len(keys) + 1)[:-1]
            bank.subset_keys.assign(keys)
            bank.subset_counts.assign(np.append(subset_counts, 0))
            bank.subset_sums.assign(np.append(subset_counts, 0)[:, None] * np.ones((1, code_length)))
        return bank

    def update(self, index: tf.Tensor, relaxed_codes: tf.Tensor) -> None:
        """Set rows `index` (B,) to `relaxed_codes` (B, K); of several rows for one item the last counts.

        Under several replicas, all replicas' rows are set in each: a replica that wrote only its own rows would lose
        those of the others without a word. Memory goes with B * C * L: set a large bank a few thousand rows at a time.

        Raises:
            ValueError: codes of another length, or of another number of rows than `index`; an index outside of the bank
                (in a graph, TensorFlow refuses that when it runs, and on a GPU leaves the row out).
        """
        index, relaxed_codes = tf.convert_to_tensor(index), tf.convert_to_tensor(relaxed_codes)
        self._check_rows(index, relaxed_codes)
        index = tf.cast(index, tf.int64)
        relaxed_codes = tf.cast(tf.stop_gradient(relaxed_codes), tf.float32)
        index, relaxed_codes = gather(index), gather(relaxed_codes)

        order = tf.argsort(index, stable=True)
        items = tf.gather(index, order)
        last = tf.searchsorted(items, items, side="right", out_type=tf.int64) - 1  # of the rows for the same item
        rows = tf.gather(relaxed_codes, tf.gather(order, last))
        once = tf.cast(
            last == tf.range(tf.zeros((), tf.int64), tf.size(items, tf.int64), tf.ones((), tf.int64)), tf.float32
        )[:, None]
        # Rows are gathered from the variables themselves: a table read whole would be copied whole before the write.
        old_rows = tf.gather(self.codes.value, items)
        change = once * (sign(rows) - sign(old_rows))  # (B, K)
        sets = tf.gather(self.set_index.value, items)
        labels = tf.gather(self.label_sets.value, sets)
        places = label_places(labels, self.max_labels)  # (B, C * L)

        self.codes.value.scatter_update(tf.IndexedSlices(rows, items))
        self.set_sums.value.scatter_add(tf.IndexedSlices(change, sets))
        # Products of 0, 1, 2 and -2 are exact in every precision.
        self.label_sums.value.assign_add(tf.matmul(places, change, transpose_a=True))
        if self.num_subsets:
            rows_of_subsets = subset_rows(labels, self.subset_keys.value, self.max_labels)  # (B, 2^L)
            # What has no row goes to the last one, as a change of nothing.
            kept = tf.cast(rows_of_subsets < self.num_subsets, tf.float32)[..., None] * change[:, None]  # (B, 2^L, K)
            slices = tf.reshape(kept, (-1, self.code_length)), tf.reshape(rows_of_subsets, [-1])
            self.subset_sums.value.scatter_add(tf.IndexedSlices(*slices))

        new, old = (tf.cast(once * x, tf.float64) for x in (rows, old_rows))
        self.relaxed_sums.value.scatter_add(tf.IndexedSlices(new - old, sets))
        # (K, B) @ (B, K) -> (K, K)
        products = tf.matmul(new, new, transpose_a=True) - tf.matmul(old, old, transpose_a=True)
        self.relaxed_products.value.assign_add(products)

    def _check_rows(self, index: tf.Tensor, relaxed_codes: tf.Tensor) -> None:
        expected = index.shape.concatenate([self.code_length])
        if index.shape.rank not in (1, None) or not expected.is_compatible_with(relaxed_codes.shape):
            raise ValueError(
                f"The bank takes an index (batch,) and codes (batch, {self.code_length}). Received: shapes "
                f"{tuple(index.shape)} and {tuple(relaxed_codes.shape)}. Encoder and bank must have one code length."
            )
        if tf.executing_eagerly() and not tf.reduce_all((index >= 0) & (index < self.num_items)):
            raise ValueError(
                f"The bank has the items 0 to {self.num_items - 1}. Received: an index from "
                f"{int(tf.reduce_min(index))} to {int(tf.reduce_max(index))}. Count the training items "
                "from 0, in the order that the bank was made from."
            )

    def check_classes(self, labels: tf.Tensor) -> None:
        """Raise `ValueError` unless `labels` (B, C) have as many classes as those of the bank."""
        if labels.shape[-1] not in (self.num_classes, None):
            raise ValueError(
                f"Labels must be of shape (images, {self.num_classes}), the classes of the bank. Received: shape "
                f"{tuple(labels.shape)}. Give one column for each class that the bank was made for."
            )

    def sums(self) -> CodeSums:
        """Return the sums of the hash codes, as `saat_tf.mainstay.mainstay_codes_from_sums` takes them.

        They are the bank's variables, not copies: what is not needed is not read.
        """
        subsets = None
        if self.num_subsets:
            subsets = SubsetSums(self.subset_keys.value, self.subset_sums.value, self.subset_counts.value)
        return CodeSums(
            label_sets=self.label_sets.value,
            set_sums=self.set_sums.value,
            set_counts=self.set_counts.value,
            label_sums=self.label_sums.value,
            label_counts=self.label_counts.value,
            subsets=subsets,
        )

    def code_sums(self) -> tf.Tensor:
        """Return the sum of the hash codes of each label set: float32 (M, K), integers."""
        return tf.convert_to_tensor(self.set_sums)

    def counts(self) -> tf.Tensor:
        """Return the number of items of each label set: float32 (M,)."""
        return tf.convert_to_tensor(self.set_counts)

    def relevance(self, labels: tf.Tensor) -> tf.Tensor:
        """Tell which items share a label with which row of `labels` (B, C): float32 (B, N) of 0/1."""
        return tf.gather(self._sharing(labels), self.set_index, axis=1)  # (B, M) -> (B, N)

    def related_sums(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the sum of the relaxed codes of the items that share a label with a row: (B, C) -> float64 (B, K)."""
        shares = tf.cast(self._sharing(labels), tf.float64)
        return tf.matmul(shares, tf.convert_to_tensor(self.relaxed_sums))  # (B, M) @ (M, K) -> (B, K)

    def _sharing(self, labels: tf.Tensor) -> tf.Tensor:
        """Tell which label sets share a label with which row: (B, C) -> float32 (B, M) of 0/1."""
        self.check_classes(labels)
        return tf.cast(tf.matmul(labels, self.label_sets, transpose_b=True) > 0, tf.float32)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_items": self.num_items,
            "num_label_sets": self.num_label_sets,
            "num_classes": self.num_classes,
            "code_length": self.code_length,
            "max_labels": self.max_labels,
            "num_subsets": self.num_subsets,
        }
