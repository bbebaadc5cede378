"""Fit of a prototype network: its data and its loop."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from saat_tf.labels import check_labels
from saat_tf.progress import Track
from saat_tf.random_numbers import choices

LEARNING_RATE, BETAS = 1e-4, (0.5, 0.999)


def checked(train_codes: np.ndarray, train_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (N, K) and labels (N, C) as float32.

    Raises:
        ValueError: they are no matrices of one length, the codes are not -1/+1, the labels not 0/1, or all are zero.
    """
    train_codes, train_labels = np.asarray(train_codes), np.asarray(train_labels)
    if train_codes.ndim != 2 or train_labels.ndim != 2 or len(train_codes) != len(train_labels):
        raise ValueError(
            "`train_codes` must be (items, bits) and `train_labels` (items, classes), one row each per item. Received: "
            f"shapes {train_codes.shape} and {train_labels.shape}."
        )
    if not np.isin(train_codes, (-1, 1)).all():
        raise ValueError(
            f"`train_codes` must contain -1 and 1 alone. Received: {train_codes.dtype} with values "
            f"{np.unique(train_codes)[:5].tolist()}. Unpack packed codes with `saat_tf.codes.unpack_codes`."
        )
    check_labels(train_labels, "train_labels")
    if not train_labels.any():
        raise ValueError("No training item has a label, so there is no prototype to learn. Received: all-zero labels.")
    return train_codes.astype(np.float32), train_labels.astype(np.float32)


def distinct_label_sets(labels: np.ndarray) -> np.ndarray:
    """Return the distinct non-empty rows of `labels` (N, C): float32 (M, C)."""
    label_sets = np.unique(np.asarray(labels, np.float32), axis=0)
    return label_sets[label_sets.any(axis=1)]


def shares_label(labels: tf.Tensor, train_labels: tf.Tensor) -> tf.Tensor:
    """Tell which training items share a label with which row: (B, C), (N, C) -> bool (B, N)."""
    return tf.matmul(labels, train_labels, transpose_b=True) > 0


@dataclasses.dataclass(frozen=True)
class Budget:
    """Length of the fit of a prototype network, and its seed; all but the seed at least 1."""

    epochs: int
    steps_per_epoch: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if min(self.epochs, self.steps_per_epoch, self.batch_size) < 1:
            raise ValueError(
                "`epochs`, `steps_per_epoch` and `batch_size` must be at least 1. Received: "
                f"{self.epochs}, {self.steps_per_epoch} and {self.batch_size}."
            )


def descend(
    variables: list[keras.Variable],
    loss: Callable[[tf.Tensor], tf.Tensor],
    label_sets: np.ndarray,
    budget: Budget,
    track: Track,
) -> None:
    """Minimize `loss` of batches drawn from `label_sets` (M, C) over `variables`, by the published settings."""
    num_steps = budget.epochs * budget.steps_per_epoch
    rates = [LEARNING_RATE * factor for factor in (1.0, 0.1, 0.01)]
    last_steps = [-(-num_steps // 2) - 1, -(-num_steps * 3 // 4) - 1]  # of each rate, counted from 0
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(last_steps, rates)
    optimizer = keras.optimizers.Adam(schedule, *BETAS)
    optimizer.build(variables)
    label_sets = tf.constant(label_sets)

    @tf.function
    def run_epoch(epoch: tf.Tensor) -> None:
        for step in tf.range(budget.steps_per_epoch):
            seed = tf.stack([budget.seed, epoch * budget.steps_per_epoch + step])
            drawn = choices(budget.batch_size, len(label_sets), seed)
            with tf.GradientTape() as tape:
                value = loss(tf.gather(label_sets, drawn))
            optimizer.apply(tape.gradient(value, variables), variables)

    for epoch in track(range(budget.epochs), budget.epochs, "Fitting prototype network"):
        run_epoch(tf.constant(epoch))
