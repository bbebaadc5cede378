"""Batches that come several times in a row."""

from collections.abc import Callable

import tensorflow as tf

Epochs = Callable[[int, int], tf.data.Dataset]


def replayed(batches: Epochs, replays: int) -> Epochs:
    """Feed each batch `replays` times in a row.

    Args:
        batches: (epoch, skipped) -> data set, as `training_epochs` makes it.
        replays: at least 1.

    Returns:
        The same, where `skipped` counts every time that a batch is fed.

    Example:
        >>> batches = replayed(lambda epoch, skipped: tf.data.Dataset.range(skipped, 3), 2)
        >>> [int(batch) for batch in batches(0, 3)]
        [1, 2, 2]
    """
    if replays == 1:
        return batches

    def again(*batch: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(batch[0] if len(batch) == 1 else batch).repeat(replays)

    return lambda epoch, skipped: batches(epoch, skipped // replays).flat_map(again).skip(skipped % replays)
