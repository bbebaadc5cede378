"""Splits of a data set: items of labels and images, whatever they are stored as."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from saat_tf.batches import batch_check, checked_arrays, parts_of
from saat_tf.data.class_folders import read_class_folders, reader_of
from saat_tf.data.decoding.decode import decode_image
from saat_tf.data.list_format import ImageList
from saat_tf.labels import check_labels, checked_classes, checked_labels
from saat_tf.text_lists import DataError

Seed: TypeAlias = int | tf.Tensor
Source = Callable[[int, int, Seed | None], tf.data.Dataset]
Read = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Decode = Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]
READ_AT_A_TIME = 128
FROM_OTHERS = "`Split.from_arrays` takes arrays, `Split.from_directory` a folder."


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

    @classmethod
    def from_arrays(cls, images: Any, labels: Any, *, num_classes: int | None = None) -> "Split":
        """Make a split of images in memory.

        Args:
            images: float32 (N, H, W, 3) in [0, 1].
            labels: (N, C) of 0/1; or with `num_classes` class numbers, integers (N,).
            num_classes: C, where the labels are class numbers.

        Raises:
            ValueError: images or labels are not that, or they are not as many.

        Example:
            >>> Split.from_arrays(np.zeros((3, 8, 8, 3), np.float32), [0, 2, 1], num_classes=3).labels.argmax(axis=1)
            array([0, 2, 1])
        """
        images, labels = checked_arrays(images, labels, batch_check(labels_check(num_classes)))
        return _in_memory(images, labels)

    @classmethod
    def from_dataset(cls, dataset: tf.data.Dataset, *, num_classes: int | None = None) -> "Split":
        """Read a data set once and keep its images in memory, 12 H W bytes each.

        They stay in the order in which they come, so that a data set that shuffles itself does no harm. For more than
        memory holds, write TFRecord files by `write_records` and read them by `record_split`.

        Args:
            dataset: of (image, label) or of batches of them, images float32 (H, W, 3) in [0, 1] of one size. Such as
                `keras.utils.image_dataset_from_directory` and TensorFlow Datasets (`as_supervised=True`) give, mapped
                to `(tf.cast(image, tf.float32) / 255, label)`.
            num_classes: C, where the labels are class numbers and not rows of 0/1.

        Raises:
            ValueError: it is no such data set, has no end, or is empty; or as `from_arrays`.

        Example:
            >>> pairs = tf.data.Dataset.from_tensor_slices((np.zeros((3, 8, 8, 3), np.float32), np.eye(3)))
            >>> len(Split.from_dataset(pairs)), len(Split.from_dataset(pairs.batch(2)))
            (3, 3)
        """
        if not isinstance(dataset, tf.data.Dataset):
            raise ValueError(f"`dataset` must be a tf.data.Dataset. Received: {type(dataset).__name__}. {FROM_OTHERS}")
        if len(parts_of(dataset.element_spec)) != 2:
            raise ValueError(
                "`dataset` must have elements (images, labels). Received: 3 parts. `dataset.map` can drop the third."
            )
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`dataset` must have an end. Received: one without. Leave out `repeat`, or `take` a part.")
        is_single = dataset.element_spec[0].shape.rank == 3
        check = batch_check(labels_check(num_classes))
        batches = [check(*batch) for batch in (dataset.batch(READ_AT_A_TIME) if is_single else dataset)]
        if not batches:
            raise ValueError("`dataset` must have items. Received: none.")
        sizes = {tuple(images.shape[1:3]) for images, _ in batches}
        if len(sizes) > 1:
            raise ValueError(
                f"`dataset` must have images of one size. Received: {sorted(sizes)[:5]}. Resize them in `dataset.map`."
            )
        return _in_memory(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    @classmethod
    def from_directory(
        cls, folder: str | Path, image_size: int, *, resize_size: int | None = None, cache: bool = False
    ) -> "Split":
        """Make a split of a folder of class folders, or of tar files, in the order of classes and names.

        Images are read and decoded as they are needed; `readable` of `saat_tf.data.class_folders` checks them.

        Args:
            folder: <class>/<image>, at least two images a class; see `read_class_folders`.
            image_size: S, side in pixels of the square that is cut from the middle.
            resize_size: what the shorter side is resized to before; S by default.
            cache: as in `Split`.

        Raises:
            DataError: it is no such folder, or is divided into train/ and val/.
        """
        images, held_out = read_class_folders(Path(folder))
        if held_out is not None:
            raise DataError(
                f"{folder}: is divided into training and held-out images. Name one of its folders, such as "
                f"{Path(folder) / 'train'}, or train by python -m trainers.folders."
            )
        decode = contents_decoder(image_size, resize_size or image_size, True)
        return cls(images.label_rows(), indices, reader_of(images.files), decode, cache)

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
    """Make a split of images in memory: `Split.from_arrays`."""
    check_labels(labels)
    return Split.from_arrays(images, labels)


def labels_check(num_classes: int | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the check of label rows, or of class numbers below `num_classes`, which it makes rows of."""
    if num_classes is None:
        return checked_labels
    return lambda labels: tf.one_hot(checked_classes(labels, num_classes), num_classes)


def _in_memory(images: np.ndarray, labels: np.ndarray) -> Split:
    tensor = tf.cast(images, tf.float32)
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
