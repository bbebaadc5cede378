"""The codes and labels of the training set, as training remembers them."""

import keras
import numpy as np
import tensorflow as tf

from saat_tf.codes import sign


@keras.saving.register_keras_serializable(package="saat_tf")
class CodeBank(keras.layers.Layer):
    """Hold the relaxed code and the labels of every training item.

    Pairwise losses read the relaxed codes; DMFL reads the sum of the codes of each distinct label set. The bank is
    state of the training: it is saved with a checkpoint and is no part of the exported encoder. Make one with
    `CodeBank.from_labels`; the constructor makes the empty shape that a saved bank is loaded into.

    Codes start at zero, whose sign is +1: fill the bank with the model's codes before DMFL reads it.

    Args:
        num_items: N, training items.
        num_label_sets: M, distinct rows among their labels.
        num_classes: C.
        code_length: K.

    Example:
        >>> bank = CodeBank.from_labels(np.eye(3, dtype="float32"), code_length=8)
        >>> bank.update(tf.constant([2]), tf.ones((1, 8)))
        >>> bank.codes.numpy().sum(axis=1).tolist()
        [0.0, 0.0, 8.0]
    """

    def __init__(
        self, num_items: int, num_label_sets: int, num_classes: int, code_length: int, dtype: str = "float32", **kwargs
    ) -> None:
        super().__init__(dtype=dtype, **kwargs)
        self.num_items = num_items
        self.num_label_sets = num_label_sets
        self.num_classes = num_classes
        self.code_length = code_length
        # Synchronised updates (see `update`) keep the copies of all replicas equal.
        self.codes = self._table("codes", (num_items, code_length))
        self.label_sets = self._table("label_sets", (num_label_sets, num_classes))
        self.set_index = self._table("set_index", (num_items,), "int32")
        self.built = True

    def _table(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> keras.Variable:
        return self.add_weight(name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False)

    @classmethod
    def from_labels(cls, labels: np.ndarray, code_length: int, **kwargs) -> "CodeBank":
        """Make a bank for training items with the given 0/1 `labels` (N, C).

        Raises:
            ValueError: `labels` is empty, not a matrix, or holds a value other than 0 and 1.
        """
        labels = np.asarray(labels, np.float32)
        if labels.ndim != 2 or labels.size == 0 or not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"`labels` must be a matrix (items, classes) of 0 and 1 with at least one item. Received shape "
                f"{labels.shape}" + (f", values {np.unique(labels)[:5].tolist()}." if labels.size else ".")
            )
        label_sets, set_index = np.unique(labels, axis=0, return_inverse=True)
        bank = cls(len(labels), len(label_sets), labels.shape[1], code_length, **kwargs)
        bank.label_sets.assign(label_sets)
        bank.set_index.assign(set_index.reshape(-1).astype(np.int32))
        return bank

    def update(self, index: tf.Tensor, relaxed_codes: tf.Tensor) -> None:
        """Set rows `index` (B,) to `relaxed_codes` (B, K). Under several replicas, all replicas' rows are set in each.

        A replica that wrote only its own rows would lose those of the others without a word.
        """
        index = tf.cast(index, tf.int32)
        relaxed_codes = tf.cast(tf.stop_gradient(relaxed_codes), tf.float32)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            index, relaxed_codes = replica.all_gather(index, axis=0), replica.all_gather(relaxed_codes, axis=0)
        self.codes.assign(tf.tensor_scatter_nd_update(self.codes, index[:, None], relaxed_codes))

    def code_sums(self) -> tf.Tensor:
        """Return the sum of the hash codes of each label set: float32 (M, K), integers, exact below 2^24 items."""
        return tf.math.unsorted_segment_sum(sign(self.codes), self.set_index, self.num_label_sets)

    def counts(self) -> tf.Tensor:
        """Return the number of items of each label set: float32 (M,)."""
        return tf.math.bincount(tf.convert_to_tensor(self.set_index), minlength=self.num_label_sets, dtype=tf.float32)

    def relevance(self, labels: tf.Tensor) -> tf.Tensor:
        """Tell which items share a label with which row of `labels` (B, C): float32 (B, N) of 0/1."""
        shares = tf.matmul(labels, self.label_sets, transpose_b=True) > 0  # (B, C) @ (C, M) -> (B, M)
        return tf.gather(tf.cast(shares, tf.float32), self.set_index, axis=1)  # (B, M) -> (B, N)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_items": self.num_items,
            "num_label_sets": self.num_label_sets,
            "num_classes": self.num_classes,
            "code_length": self.code_length,
        }
