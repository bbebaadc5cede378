"""What the training models of codes share: a bank of codes and a hashing loss."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.batches import batch_errors
from saat_tf.labels import UNKNOWN_REMEDY, checked_labels
from saat_tf.layers import CodeBank
from saat_tf.losses import DPH, HashingLoss
from saat_tf.models.bank_rows import BankRows, rows_of_items
from saat_tf.models.fit_data import all_batches
from saat_tf.models.hashing_model import HashingModel
from saat_tf.models.training_model import TrainingModel
from saat_tf.replicas import distribute, whole_batch

ADAPT = "Call `adapt` with the training set first, or construct the model with a `code_bank`."
# Rows of a bank that are set at a time, which bounds the memory for it.
ROWS_AT_A_TIME = 4096


class CodeTraining(TrainingModel):
    """Base of `HashingTraining` and `AdversarialTraining`.

    The bank has to know which item is which. `adapt` reads the training set once and makes and fills the bank; after
    that `fit` takes the same arrays, or batches of the same items in any order, shuffled and augmented. In arrays an
    item is known by its place. A batch (images, labels, index) says it. In a batch (images, labels) nobody knows, and
    each item gets the next row of its label set in the bank, see `saat_tf.models.bank_rows.BankRows`.

    Args:
        encoder: the model to train.
        code_bank: codes and labels of the training set; None where `adapt` is to make it.
        hashing_loss: the hashing loss; by default `DPH`, the paper's.

    Raises:
        ValueError: the encoder is no `HashingModel`, or encoder and bank differ in code length.
    """

    PARTS = ("encoder", "code_bank", "hashing_loss")
    code_bank: Any  # a CodeBank; None before `adapt` has made one

    def __init__(
        self,
        encoder: HashingModel,
        code_bank: CodeBank | None = None,
        hashing_loss: HashingLoss | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(encoder, HashingModel):
            raise ValueError(
                f"The encoder to train must be a HashingModel. Received: a {type(encoder).__name__}. Make one around a "
                "Keras model from images to features: HashingModel(model, code_length=32)."
            )
        super().__init__(encoder, **kwargs)
        if code_bank is not None and encoder.code_length != code_bank.code_length:
            raise ValueError(
                f"Encoder and code bank must have one code length. Received: {encoder.code_length} and "
                f"{code_bank.code_length} bits."
            )
        self.code_bank = code_bank
        self.hashing_loss = DPH() if hashing_loss is None else hashing_loss

    def build_on_bank(self) -> None:
        """Build what reads the bank; called where there is one, and by `adapt` as it makes it."""

    def adapt(self, x: Any, y: Any = None, *, batch_size: int = 128, steps: int | None = None) -> None:
        """Read a training set once: make the bank of its items where there is none, and fill it with their codes.

        The codes are those of inference mode.

        Args:
            x: images in memory, float32 (N, S, S, 3) in [0, 1]; or a data set or generator of batches, as in `fit`.
                What it gives is one pass over the training set, each item once.
            y: labels of the images, (N, C) of 0/1, where these are in memory.
            batch_size: images a batch, of images in memory.
            steps: how many batches to read of what has no end.

        Raises:
            ValueError: images, labels or index are not what the model takes, or the bank is of other items.
        """
        encode = tf.function(
            lambda images: self.encoder(images, alpha=self.hashing_loss.alpha(), training=False), reduce_retracing=True
        )
        with batch_errors():
            batches = [
                (encode(images), *rest)
                for images, *rest in all_batches(x, y, self._check, batch_size=batch_size, steps=steps)
            ]
        if not batches:
            raise ValueError("The training set must have items. Received: none.")
        codes, labels, *index = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        if index:
            order = _order_of(index[0], len(codes))
            codes, labels = codes[order], labels[order]
        if self.code_bank is None:
            self._make_bank(labels)
        in_order = bool(index) or y is not None
        self._set_codes(rows_of_items(self.code_bank, labels, in_order=in_order), codes)

    def set_items(self, labels: np.ndarray) -> None:
        """Make the bank of items with the label rows (N, C) of 0/1, where there is none; codes are still zero.

        Raises:
            ValueError: there is a bank, of other items.
        """
        if self.code_bank is None:
            self._make_bank(labels)
        rows_of_items(self.code_bank, labels, in_order=True)

    def _make_bank(self, labels: np.ndarray) -> None:
        with self.distribute_strategy.scope():
            self.code_bank = CodeBank.from_labels(labels, self.encoder.code_length)
            self.build_on_bank()

    def _set_codes(self, rows: np.ndarray, codes: np.ndarray) -> None:
        """Set rows (N,) of the bank to codes (N, K), in every replica."""
        update = tf.function(
            lambda *part: self.distribute_strategy.run(self.code_bank.update, part), reduce_retracing=True
        )
        for start in range(0, len(rows), ROWS_AT_A_TIME):
            part = slice(start, start + ROWS_AT_A_TIME)
            update(tf.constant(rows[part]), tf.constant(codes[part]))

    def fit(self, x: Any = None, y: Any = None, **options: Any) -> keras.callbacks.History:
        """Fit as Keras does; see `TrainingModel.fit`, and above which item is which.

        Raises:
            ValueError: as there, or there is no bank, or arrays are not those that it is of, or a batch without index
                has labels that no item of the bank has.
        """
        self._check_bank()
        return super().fit(x, y, **options)

    def evaluate(self, x: Any = None, y: Any = None, **options: Any) -> Any:
        """Evaluate as Keras does; see `TrainingModel.evaluate`.

        Raises:
            ValueError: as there, or there is no bank.
        """
        self._check_bank()
        return super().evaluate(x, y, **options)

    def _check_bank(self) -> None:
        if self.code_bank is None:
            raise ValueError(f"`{type(self).__name__}` has no code bank yet. {ADAPT}")

    def checked_targets(self, labels: tf.Tensor) -> tf.Tensor:
        """Return label rows (B, C) of 0/1 as float32, or raise `ValueError` where they are others."""
        labels = checked_labels(labels)
        width = labels.shape[1]
        if self.code_bank is not None and width is not None and width != self.code_bank.num_classes:
            raise ValueError(
                f"`labels` must have the {self.code_bank.num_classes} columns of the code bank. Received: {width}. "
                f"{UNKNOWN_REMEDY}"
            )
        return labels

    def num_items(self) -> int | None:
        """Return the number of items of the bank; None where there is none."""
        return None if self.code_bank is None else self.code_bank.num_items

    def index_of_arrays(self, labels: np.ndarray) -> np.ndarray:
        """Return the index of each item of a training set in memory, which must be that of the bank: int64 (N,)."""
        return rows_of_items(self.code_bank, np.asarray(labels), in_order=True)

    def rows_without_index(self) -> Callable[[], BankRows]:
        """Return what gives items without an index one."""
        return lambda: BankRows.of(self.code_bank)

    def prepare(self, dataset: tf.data.Dataset) -> None:
        """Fill the bank."""
        self.fill_bank(dataset)

    def fill_bank(self, dataset: tf.data.Dataset) -> None:
        """Set the bank to the encoder's codes, in inference mode, of a data set of (images, labels, index)."""
        self._check_bank()
        strategy = self.distribute_strategy
        num_batches = int(dataset.cardinality())

        def fill(images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> None:
            with whole_batch(index):
                self.code_bank.update(index, self.encoder(images, alpha=self.hashing_loss.alpha(), training=False))

        step = tf.function(lambda *batch: strategy.run(fill, batch), reduce_retracing=True)
        for batch in itertools.islice(distribute(dataset, strategy), num_batches):
            step(*batch)

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict:
        """Do one step on (images (B, S, S, 3), labels (B, C), index (B,)), and return the losses' means."""
        if len(data) != 3:
            raise ValueError(f"A step needs (images, labels, index). Received: {len(data)} parts. `fit` adds an index.")
        return super().train_step(data)

    def descend(
        self, tape: tf.GradientTape, loss: tf.Tensor, images: tf.Tensor, *watched: tf.Tensor
    ) -> list[tf.Tensor]:
        """Apply one step of the optimizer, and count it in the hashing loss."""
        slopes = super().descend(tape, loss, images, *watched)
        with tf.control_dependencies([loss]):  # as there
            self.hashing_loss.advance()
        return slopes


def _order_of(index: np.ndarray, count: int) -> np.ndarray:
    """Return where each of `count` items is in a pass over the data set that gave the indices `index` (count,).

    Raises:
        ValueError: the indices are not 0 ... count - 1, each once.
    """
    order = np.argsort(index, kind="stable")
    if not np.array_equal(index[order], np.arange(count)):
        raise ValueError(
            f"The indices of a training set must be 0 to {count - 1}, each once. Received: {len(np.unique(index))} "
            f"of them, from {index.min()} to {index.max()}. Read each item once, and count them from 0."
        )
    return order
