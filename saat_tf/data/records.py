"""Image files packed into TFRecord files: few large files instead of many small ones."""

import contextlib
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from saat_tf.data.decoding.check import UnreadableImage, image_faults
from saat_tf.data.list_format import ImageList
from saat_tf.data.pipeline import Seed, Source, Split, contents_decoder
from saat_tf.files import atomic
from saat_tf.progress import Track, silent
from saat_tf.text_lists import DataError

# Records that are shuffled at a time, as encoded files: 1.6 GB of photographs of 160 kB.
SHUFFLE_BUFFER = 10_000
# Files that are read in turns when the order is shuffled.
CYCLE_LENGTH = 4
# Records that are parsed at a time.
BATCH = 64


def write_records(images: ImageList, folder: Path, *, images_per_file: int = 1000, track: Track = silent) -> list[Path]:
    """Pack the image files of a split, as they are, into `<split>-<number>-of-<count>.tfrecord` files.

    Each record is a `tf.train.Example` of `image` (the contents of the image file), `labels` (C of 0/1), `index` (place
    in the split) and `count` (N). Each file appears when it is whole, and what is there is never overwritten.

    Args:
        images: the split.
        folder: where to write; made where it is needed.
        images_per_file: images in each file but the last.
        track: shows progress.

    Returns:
        The files.

    Raises:
        DataError: an image cannot be read.
        FileExistsError: the folder has records of this split.
        ValueError: `images_per_file` is below 1.
    """
    if images_per_file < 1:
        raise ValueError(f"`images_per_file` must be at least 1. Received: {images_per_file}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if found := _find_files(folder, images.name):
        raise FileExistsError(
            f"{found[0]} exists, and records are never overwritten. Remove it, or use another folder."
        )
    count = math.ceil(len(images.paths) / images_per_file)
    files = [folder / f"{images.name}-{number:05d}-of-{count:05d}.tfrecord" for number in range(count)]
    with contextlib.closing(image_faults(images.paths, track)) as faults:
        checked = enumerate(faults)
        for number, file in enumerate(files):
            held = min(images_per_file, len(images.paths) - number * images_per_file)
            rows = itertools.islice(checked, held)
            with atomic(file) as temporary:
                _write(images, rows, temporary)
    return files


def _write(images: ImageList, checked: Iterable[tuple[int, tuple[Path, str | None]]], file: Path) -> None:
    with tf.io.TFRecordWriter(str(file)) as writer:
        for place, (path, fault) in checked:
            if fault:
                unreadable = UnreadableImage(images.name, images.lines[place], path, fault)
                raise DataError(f"{unreadable} Replace it, or drop its lines.")
            writer.write(_example(path.read_bytes(), images.labels[place], place, len(images.paths)))


def _example(contents: bytes, labels: np.ndarray, index: int, count: int) -> bytes:
    def integers(values: list[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents])),
        "labels": integers(labels.astype(np.int64).tolist()),
        "index": integers([index]),
        "count": integers([count]),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def record_split(
    folder: Path,
    name: str,
    image_size: int,
    resize_size: int,
    *,
    cache: bool = False,
    apply_orientation: bool = True,
) -> Split:
    """Make a split of the files that `write_records` wrote, decoded by `decode_image`.

    All of them are read once, with their checksums, for the labels: damage is found here and not during training. The
    shuffled order is drawn anew in every epoch: that of the files, and that of `SHUFFLE_BUFFER` records at a time. A
    shard reads the files that contain its items alone.

    Args:
        folder: where they are.
        name: "train", "database" or "test".
        image_size: S, side of the images in pixels.
        resize_size: length of the shorter side before the cut.
        cache: as in `Split`.
        apply_orientation: as in `decode_image`.

    Raises:
        DataError: files are missing or damaged, or are not of one split.
    """
    files = _whole_set(Path(folder), name)
    parts = [_read_facts(file) for file in files]
    widths = {part.labels.shape[1] for part in parts}
    index, counts, lengths = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("number", "total", "size")
    )
    if len(widths) > 1 or not np.array_equal(index, np.arange(len(index))) or (counts != len(index)).any():
        raise DataError(
            f"{folder}: the {len(files)} {name} files have {len(index)} records of {counts.max()}, or are not of one "
            "set. Write them again."
        )
    bounds = np.cumsum([0, *(len(part.number) for part in parts)])
    for file, part in zip(files, parts, strict=True):
        rows = part.labels
        if not np.isin(rows, (0, 1)).all():
            raise DataError(f"{file}: labels must be 0 or 1. Received: {rows.min()} to {rows.max()}. Write it again.")
    labels = np.concatenate([part.labels for part in parts]).astype(np.float32)
    source = _source([str(file) for file in files], bounds)
    decode = contents_decoder(image_size, resize_size, apply_orientation)
    return Split(labels, source, _read, decode, cache, lengths=lengths)


def _find_files(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}-{'[0-9]' * 5}-of-{'[0-9]' * 5}.tfrecord"))


def _whole_set(folder: Path, name: str) -> list[Path]:
    found = _find_files(folder, name)
    if not found:
        raise DataError(f"{folder}: no {name}-<number>-of-<count>.tfrecord. Make them by `write_records`.")
    total = found[0].stem.rpartition("-of-")[2]
    expected = [folder / f"{name}-{number:05d}-of-{total}.tfrecord" for number in range(int(total))]
    if found != expected:
        strange = sorted({*found} ^ {*expected})[0]
        fault = "not of this set" if strange in found else "missing"
        raise DataError(f"{strange}: {fault}. Write all {name} files again.")
    return found


class _Facts(NamedTuple):
    """The n records of a file, int64: labels (n, C); number in the split, total, and bytes of the image, (n,)."""

    labels: np.ndarray
    number: np.ndarray
    total: np.ndarray
    size: np.ndarray


def _read_facts(file: Path) -> _Facts:
    records = tf.data.TFRecordDataset(str(file))
    try:
        first = tf.train.Example.FromString(next(records.as_numpy_iterator(), b""))
        width = len(first.features.feature["labels"].int64_list.value)
        features = {
            "labels": tf.io.FixedLenFeature((width,), tf.int64),
            "index": tf.io.FixedLenFeature((), tf.int64),
            "count": tf.io.FixedLenFeature((), tf.int64),
            "image": tf.io.FixedLenFeature((), tf.string),
        }

        def facts(serialized: tf.Tensor) -> _Facts:
            parsed = tf.io.parse_example(serialized, features)
            length = tf.cast(tf.strings.length(parsed["image"]), tf.int64)
            return _Facts(parsed["labels"], parsed["index"], parsed["count"], length)

        parsed = list(records.batch(BATCH).map(facts).as_numpy_iterator())
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, DecodeError) as error:
        raise DataError(f"{file}: damaged ({str(error).splitlines()[0]}). Write it again.") from error
    if not parsed:
        raise DataError(f"{file}: contains no records. Write it again.")
    return _Facts(*(np.concatenate(column) for column in zip(*parsed, strict=True)))


def _read(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    features = {"image": tf.io.FixedLenFeature((), tf.string), "index": tf.io.FixedLenFeature((), tf.int64)}
    parsed = tf.io.parse_single_example(serialized, features)
    return parsed["index"], parsed["image"]


def _source(files: list[str], bounds: np.ndarray) -> Source:
    """Give the records of `files`; file k contains the items bounds[k] ... bounds[k + 1] - 1."""

    def source(first: int, count: int, seed: Seed | None) -> tf.data.Dataset:
        held = [k for k in range(len(files)) if bounds[k] < first + count and bounds[k + 1] > first]
        skipped = np.maximum(first - bounds[held], 0)
        wanted = np.minimum(first + count, bounds[1:][held]) - bounds[held] - skipped
        parts = tf.data.Dataset.from_tensor_slices(([files[k] for k in held], skipped, wanted))
        if seed is None:
            records = parts.flat_map(_records)
        else:
            # Not in parallel: reading is a small part of the work, and the order must be that of the seed.
            files_in_order = parts.shuffle(len(held), seed=seed, reshuffle_each_iteration=False)
            records = files_in_order.interleave(_records, cycle_length=CYCLE_LENGTH)
            records = records.shuffle(min(count, SHUFFLE_BUFFER), seed=seed, reshuffle_each_iteration=False)
        return records.apply(tf.data.experimental.assert_cardinality(count))

    return source


def _records(file: tf.Tensor, skipped: tf.Tensor, wanted: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(file).skip(skipped).take(wanted)
