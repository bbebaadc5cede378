"""From a split to batches of (images, labels, index)."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from saat_tf.data.decode import decode_image
from saat_tf.data.list_format import ImageList


@dataclasses.dataclass(frozen=True)
class Split:
    """Items of one split, whatever they are stored as.

    Args:
        labels: float32 (N, C) of 0/1.
        load: scalar int64 index -> image, float32 (S, S, 3) in [0, 1]; runs inside tf.data.
        cache: keep the images in memory, 12 S^2 bytes each, once an epoch of training has loaded them.
    """

    labels: np.ndarray
    load: Callable[[tf.Tensor], tf.Tensor]
    cache: bool = False

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class RetrievalData:
    """A data set to train and evaluate hashing on; `test` holds the queries."""

    name: str
    class_names: Sequence[str]
    train: Split
    database: Split
    test: Split


def array_split(images: np.ndarray, labels: np.ndarray) -> Split:
    """Make a split of images in memory, float32 (N, S, S, 3) in [0, 1]."""
    tensor = tf.convert_to_tensor(images)
    return Split(labels, lambda index: tf.gather(tensor, index))


def file_split(images: ImageList, image_size: int, resize_size: int, *, cache: bool = False) -> Split:
    """Make a split of image files, decoded by `decode_image`."""
    paths = tf.constant([str(path) for path in images.paths])

    def load(index: tf.Tensor) -> tf.Tensor:
        return decode_image(tf.io.read_file(tf.gather(paths, index)), image_size, resize_size)

    return Split(images.labels, load, cache)


def training_batches(split: Split, batch_size: int, *, seed: int, flip: bool = False) -> tf.data.Dataset:
    """Batch a split in an order that `seed` and TensorFlow's global seed decide and that is new in every epoch.

    Args:
        split: the items.
        batch_size: images a batch; the last one of an epoch may hold fewer.
        seed: seed of the order and of the flips.
        flip: mirror each image left to right with probability 1/2, anew in every epoch.

    Returns:
        Data set of (images float32 (B, S, S, 3) in [0, 1], labels float32 (B, C), index int64 (B,)).
    """
    if split.cache:
        examples = _examples(split, _indices(split)).cache().shuffle(len(split), seed=seed)
    else:
        examples = _examples(split, _indices(split).shuffle(len(split), seed=seed))
    return _batches(_flipped(examples, seed) if flip else examples, batch_size)


def evaluation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Batch a split in its own order; elements as in `training_batches`."""
    return _batches(_examples(split, _indices(split)), batch_size)


def _indices(split: Split) -> tf.data.Dataset:
    return tf.data.Dataset.range(len(split))


def _examples(split: Split, indices: tf.data.Dataset) -> tf.data.Dataset:
    labels = tf.convert_to_tensor(split.labels)
    return indices.map(
        lambda index: (split.load(index), tf.gather(labels, index), index),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _flipped(examples: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    return tf.data.Dataset.zip(examples, numbers).map(
        lambda example, number: (tf.where(number % 2 == 0, example[0], example[0][:, ::-1]), *example[1:]),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _batches(examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    return examples.batch(batch_size).prefetch(tf.data.AUTOTUNE)
