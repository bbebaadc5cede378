"""Some items of a split as a split of their own."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from saat_tf.data.pipeline import Seed, Split

AnySplit = TypeVar("AnySplit", bound=Split)


def spread_indices(available: int, count: int) -> list[int]:
    """Return `count` indices spread evenly over 0 ... available - 1, or all where there are no more.

    Example:
        >>> spread_indices(10, 4), spread_indices(2, 4)
        ([0, 2, 5, 7], [0, 1])
    """
    count = min(available, count)
    return [i * available // count for i in range(count)]


def subset(split: AnySplit, chosen: Sequence[int] | np.ndarray) -> AnySplit:
    """Make a split of some items of another, counted anew from 0.

    Nothing is copied: the other's source is gone through from the first item wanted to the last, by index alone.

    Args:
        split: the items, all of a data set's split.
        chosen: int (n,), ascending, in [0, N).

    Raises:
        ValueError: `chosen` is not that, or `split` is a shard.

    Example:
        >>> from saat_tf.data import array_split
        >>> split = array_split(np.zeros((5, 2, 2, 3), np.float32), np.eye(5, dtype=np.float32))
        >>> subset(split, np.array([1, 4])).labels.argmax(axis=1).tolist()
        [1, 4]
    """
    chosen = np.asarray(chosen)
    if split.is_shard or not len(chosen) or (np.diff(chosen) < 1).any() or chosen[0] < 0 or chosen[-1] >= len(split):
        raise ValueError(
            f"`chosen` must be ascending indices in [0, {len(split)}) of a split that is no shard. Received: {chosen} "
            f"of {'a shard' if split.is_shard else 'a whole split'}."
        )
    places = np.full(len(split), -1, np.int64)
    places[chosen] = np.arange(len(chosen))
    place_of = tf.constant(places)

    def read(key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index, item = split.read(key)
        return tf.gather(place_of, index), item

    def source(first: int, count: int, seed: Seed | None) -> tf.data.Dataset:
        start, last = int(chosen[first]), int(chosen[first + count - 1])
        keys = split.source(start, last - start + 1, seed).filter(lambda key: read(key)[0] >= 0)
        return keys.apply(tf.data.experimental.assert_cardinality(count))

    lengths = None if split.lengths is None else split.lengths[chosen]
    return dataclasses.replace(split, labels=split.labels[chosen], source=source, read=read, lengths=lengths)
