"""Splits of a data set: items of labels and images, whatever they are stored as."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from saat_tf.data.decoding.decode import decode_image
from saat_tf.data.list_format import ImageList
from saat_tf.labels import check_labels

Seed: TypeAlias = int | tf.Tensor
Source = Callable[[int, int, Seed | None], tf.data.Dataset]
Read = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Decode = Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Split:
    """Items of one split, whatever they are stored as.

    Args:
        labels: float32 (N, C) of 0/1.
        source: (first, count, seed) -> data set of keys, one for each of the items first ... first + count - 1, in
            order, or with a seed in an order that the seed decides.
        read: key -> (index int64, item), the item as it is stored.
        decode: (item, crop_seed) -> image, float32 (S, S, 3) in [0, 1]. `crop_seed` is an integer (2,) that decides
            where to cut, or None for the middle.
        cache: keep in memory, once an epoch of training has loaded it, what is the same in every epoch: the images,
            12 S^2 bytes each, or under random crops the items as they are stored.
        first: index of the first item; that of a shard is its place in the whole split.
        is_shard: whether this is a part that `shard` made.
        lengths: int64 (N,), bytes of each image file where the files are packed into others; None where they are not.

    Raises:
        ValueError: labels are not 0/1.
    """

    labels: np.ndarray
    source: Source
    read: Read
    decode: Decode
    cache: bool = False
    first: int = 0
    is_shard: bool = False
    lengths: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> tf.Tensor:
        """Load one image, for a look at it: float32 (S, S, 3) in [0, 1]."""
        key = next(iter(self.source(self.first + int(index), 1, None)))
        return self.decode(self.read(key)[1], None)

    def shard(self, number: int, count: int) -> "Split":
        """Return one of `count` parts, for a worker or a replica that reads by itself.

        The parts are consecutive, disjoint and together the whole: part i has the items from floor(i N / count) up to
        floor((i + 1) N / count), so their lengths differ by at most one and none is lost, padded or repeated. The
        indices in its batches are those of the whole split, by which a code bank counts. Parts can have one batch more
        than others: training that waits for all workers ends its epoch with the shortest, by `steps_per_epoch`. A
        part can be cut again, as worker and then replica.

        Args:
            number: which part, from 0.
            count: number of parts, at most one an item.

        Raises:
            ValueError: there is no such part, or it would be empty.

        Example:
            >>> split = array_split(np.zeros((5, 2, 2, 3), np.float32), np.eye(5, dtype=np.float32))
            >>> [len(split.shard(i, 3)) for i in range(3)]
            [1, 2, 2]
        """
        if not 0 <= number < count <= len(self):
            raise ValueError(
                f"`number` must be in [0, count), `count` at most {len(self)} items. Received: {number} and {count}."
            )
        start, stop = number * len(self) // count, (number + 1) * len(self) // count
        return dataclasses.replace(
            self,
            labels=self.labels[start:stop],
            lengths=None if self.lengths is None else self.lengths[start:stop],
            first=self.first + start,
            is_shard=True,
        )


@dataclasses.dataclass(frozen=True)
class RetrievalData:
    """A data set to train and evaluate hashing on; `test` contains the queries."""

    name: str
    class_names: Sequence[str]
    train: Split
    database: Split
    test: Split


def array_split(images: np.ndarray, labels: np.ndarray) -> Split:
    """Make a split of images in memory, float32 (N, S, S, 3) in [0, 1]."""
    tensor = tf.convert_to_tensor(images)
    decode = center_only(lambda index: tf.gather(tensor, index))
    return Split(labels, indices, lambda index: (index, index), decode)


def file_split(
    images: ImageList, image_size: int, resize_size: int, *, cache: bool = False, apply_orientation: bool = True
) -> Split:
    """Make a split of image files, decoded by `decode_image`."""
    paths = tf.constant([str(path) for path in images.paths])

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return index, tf.io.read_file(tf.gather(paths, index))

    decode = contents_decoder(image_size, resize_size, apply_orientation)
    return Split(images.labels, indices, read, decode, cache)


def indices(first: int, count: int, seed: Seed | None) -> tf.data.Dataset:
    """Give the indices of the items: the `source` of a split that is read in any order."""
    found = tf.data.Dataset.range(first, first + count)
    return found if seed is None else found.shuffle(count, seed=seed, reshuffle_each_iteration=False)


def contents_decoder(image_size: int, resize_size: int, apply_orientation: bool) -> Decode:
    """Make the `decode` of a split whose items are the contents of image files."""
    return lambda contents, crop_seed: decode_image(
        contents, image_size, resize_size, crop_seed=crop_seed, apply_orientation=apply_orientation
    )


def center_only(decode: Callable[[tf.Tensor], tf.Tensor]) -> Decode:
    """Make the `decode` of a split whose images are cut already."""

    def checked(item: tf.Tensor, crop_seed: tf.Tensor | None) -> tf.Tensor:
        if crop_seed is not None:
            raise ValueError(
                "`random_crop` needs images that are not cut yet. Received: images in memory or in a disk cache. "
                "Use `file_split` or `record_split`, or leave it out."
            )
        return decode(item)

    return checked
