"""Batches of (images, labels, index) of a split, for training and evaluation."""

import functools
import os
from collections.abc import Callable

import tensorflow as tf

from saat_tf.data.pipeline import Seed, Split

# Items in work at a time: more than cores, so that a slow one, whose turn it is, stops no other. AUTOTUNE begins anew
# with every epoch, and short ones are over before it has found this.
PARALLEL_CALLS = 4 * (os.cpu_count() or 1)
MAX_NUMBER = 1 << 62
# Far apart, so that no two epochs of neighboring seeds are alike.
EPOCH_STRIDE = 1_000_003


def training_batches(
    split: Split, batch_size: int, *, seed: int, flip: bool = False, random_crop: bool = False
) -> tf.data.Dataset:
    """Batch a split in an order that `seed` and TensorFlow's global seed decide and that is new in every epoch.

    Args:
        split: the items.
        batch_size: images a batch; the last one of an epoch may contain fewer.
        seed: seed of the order, of the flips and of the crops.
        flip: mirror each image left to right with probability 1/2, anew in every epoch.
        random_crop: cut each image at a random place instead of the middle, anew in every epoch.

    Returns:
        Data set of (images float32 (B, S, S, 3) in [0, 1], labels float32 (B, C), index int64 (B,)).

    Raises:
        ValueError: `random_crop` of a split whose images are cut already.
    """
    examples = _training_examples(split, flip, random_crop)

    def epoch_examples(epoch_seed: tf.Tensor) -> tf.data.Dataset:
        # The global seed is in epoch_seed already; and where it is 0, TensorFlow takes no tensor for a seed.
        tf.random.set_seed(1)
        return examples(epoch_seed)

    epoch_seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).take(1)
    count = tf.data.experimental.assert_cardinality(len(split))
    return _batches(split, epoch_seeds.flat_map(epoch_examples).apply(count), batch_size)


def training_epochs(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    flip: bool = False,
    random_crop: bool = False,
    needed: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
) -> Callable[[int, int], tf.data.Dataset]:
    """Batch a split so that any part of any epoch can be had again: for training that resumes where it was interrupted.

    Args:
        split: the items.
        batch_size: images a batch; the last one of an epoch may contain fewer.
        seed: with the number of the epoch and TensorFlow's global seed it decides order, flips and crops.
        flip: as in `training_batches`.
        random_crop: as in `training_batches`.
        needed: (row, rows) -> whether this machine trains on that row of a batch of so many, all int64 scalars; the
            other rows are black, have the first item's index, and cost no reading. By default all are needed.

    Returns:
        (epoch, skipped) -> data set of the epoch's batches from number `skipped` on, as in `training_batches`. What is
        skipped is not decoded, unless a cache is to be filled.

    Raises:
        ValueError: `random_crop` of a split whose images are cut already.

    Example:
        >>> import numpy as np
        >>> from saat_tf.data import array_split
        >>> split = array_split(np.zeros((5, 2, 2, 3), np.float32), np.eye(5, dtype=np.float32))
        >>> batches = training_epochs(split, 2, seed=0)
        >>> rest = [index.numpy().tolist() for _, _, index in batches(3, 1)]
        >>> rest == [index.numpy().tolist() for _, _, index in batches(3, 0)][1:]
        True
    """

    is_needed = needed and functools.partial(_is_needed, needed, batch_size, len(split))
    examples = _training_examples(split, flip, random_crop, is_needed)

    def epoch_batches(epoch: int, skipped: int) -> tf.data.Dataset:
        return _batches(split, examples(seed + EPOCH_STRIDE * (epoch + 1), skipped * batch_size), batch_size)

    return epoch_batches


def _is_needed(
    needed: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], batch_size: int, count: int, place: tf.Tensor
) -> tf.Tensor:
    """Tell whether the item at a place of an epoch of `count` items is needed."""
    row = place % batch_size
    return needed(row, tf.minimum(tf.constant(batch_size, tf.int64), count - place + row))


def _training_examples(
    split: Split, flip: bool, random_crop: bool, is_needed: Callable[[tf.Tensor], tf.Tensor] | None = None
) -> Callable[..., tf.data.Dataset]:
    """Return (seed, skipped) -> (index, image) of the items of an epoch that is decided by the seed.

    Where `is_needed`, of the place in the epoch, is False, there is a black image instead.
    """

    def same(key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return of an item what is the same in every epoch."""
        index, item = split.read(key)
        return index, item if random_crop else split.decode(item, None)

    def varied(example: tuple[tf.Tensor, tf.Tensor], number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Crop and flip by a random number: its parity flips, a hash of it cuts."""
        index, image = example
        if random_crop:
            image = split.decode(image, tf.stack([number, 0]))
        if flip:
            image = tf.cond(number % 2 == 0, lambda: image, lambda: tf.reverse(image, [1]))
        return index, image

    # Made once, outside of the epochs, which share what it contains.
    kept = _map(split.source(split.first, len(split), None), same).cache() if split.cache else None

    def examples(seed: Seed, skipped: int = 0) -> tf.data.Dataset:
        numbers = tf.data.Dataset.range(len(split)).map(lambda place: _number(seed, place))
        if kept is not None:
            items = kept.shuffle(len(split), seed=seed, reshuffle_each_iteration=False)
        else:
            items = split.source(split.first, len(split), seed)

        def make(item: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return varied(item if split.cache else same(item), number)

        pairs = tf.data.Dataset.zip(items, numbers).skip(skipped)
        return _map(pairs, make) if is_needed is None else _map_needed(pairs, make, is_needed, skipped, split.first)

    return examples


def _map_needed(
    pairs: tf.data.Dataset, make: Callable, is_needed: Callable[[tf.Tensor], tf.Tensor], first: int, index: int
) -> tf.data.Dataset:
    """Map pairs, the first of which has place `first`; those that are not needed to `index` and a black image."""
    image = _map(pairs, make).element_spec[1]
    blank = (tf.constant(index, tf.int64), tf.zeros(image.shape, image.dtype))
    places = tf.data.Dataset.range(first, MAX_NUMBER)
    return _map(
        tf.data.Dataset.zip(pairs, places),
        lambda pair, place: tf.cond(is_needed(place), lambda: make(*pair), lambda: blank),
    )


def _number(seed: Seed, place: tf.Tensor) -> tf.Tensor:
    """Return the random number of a place in an epoch: int64, in [0, 2^62)."""
    return tf.random.stateless_uniform((), tf.stack([tf.cast(seed, tf.int64), place]), 0, MAX_NUMBER, tf.int64)


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Batch a split in its own order; elements as in `training_batches`."""

    def centered(key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index, item = split.read(key)
        return index, split.decode(item, None)

    return _batches(split, _map(split.source(split.first, len(split), None), centered), batch_size)


def _map(examples: tf.data.Dataset, function: Callable) -> tf.data.Dataset:
    return examples.map(function, num_parallel_calls=PARALLEL_CALLS, deterministic=True)


def _batches(split: Split, examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    labels = tf.convert_to_tensor(split.labels)
    batches = examples.batch(batch_size).map(
        lambda index, images: (images, tf.gather(labels, index - split.first), index)
    )
    options = tf.data.Options()
    # A distribution strategy deals the batches of a whole split to its workers; one that has its part keeps it whole.
    policy = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = policy.OFF if split.is_shard else policy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)
