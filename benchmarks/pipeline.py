"""Measure how fast images are read, without a model: `python -m benchmarks.pipeline` writes docs/results/pipeline.json.

Claim: at least 90% of the decode limit, which is the baseline. Corel-5K's database as a folder of JPEG files and as
TFRecord, at the paper's resize 256 and crop 224 and at the sizes of `trainers.corel5k`. The decode limit is
`decode_image` alone on all cores, from memory, its pixels thrown away: no files, no order, no labels, no batches. What
batches alone cost is measured beside it. The ways are taken in turns, after a pass of each that is not counted.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
import tyro

from benchmarks.timing import figure, in_turns, write_result
from saat_tf.data import (
    decode_image,
    evaluation_batches,
    file_split,
    read_image_lists,
    record_split,
    training_batches,
    write_records,
)
from saat_tf.data.batches import PARALLEL_CALLS
from saat_tf.data.list_format import ImageList

DATA_DIR = Path("../shared/data/corel5k")
SIZES = ((224, 256), (64, 64))
BATCH, REPEATS, GOAL = 32, 3, 0.9


def take_all(batches: tf.data.Dataset) -> None:
    """Take every batch once."""
    for _ in batches:
        pass


def decoded(contents: tf.Tensor, decode: Callable, *, keep: bool = False) -> tf.data.Dataset:
    """Decode on all cores; of each image keep the whole, or one number alone."""
    indices = tf.data.Dataset.range(len(contents))
    images = indices.map(
        lambda index: decode(contents[index]) if keep else decode(contents[index])[0, 0, 0],
        num_parallel_calls=PARALLEL_CALLS,
    )
    return images.batch(BATCH)


def decode_jpeg(contents: tf.Tensor) -> tf.Tensor:
    """Decode as `decode_image` does, and leave it at that."""
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def main(*, quick: bool = False, data_dir: Path = DATA_DIR) -> None:
    """Print and write images/s of each way of reading, and its share of the decode limit.

    Args:
        quick: 100 images of the smaller size, one pass.
        data_dir: Corel-5K in the list format.
    """
    if not data_dir.is_dir():
        print(f"{data_dir}: no Corel-5K in the list format, nothing measured; name it by --data-dir")
        return
    images = read_image_lists(data_dir).database
    images, repeats, sizes = (images.take(range(100)), 1, SIZES[-1:]) if quick else (images, REPEATS, SIZES)
    contents = tf.constant([path.read_bytes() for path in images.paths])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_records(images, Path(folder))
        for image_size, resize_size in sizes:
            ways = ways_of_reading(images, contents, Path(folder), image_size, resize_size)
            timings = in_turns({n: functools.partial(take_all, way) for n, way in ways.items()}, repeats=repeats)
            limit = timings["decode limit"].median
            print(f"resize {resize_size}, crop {image_size}")
            for name, timing in timings.items():
                rate, share = len(images.paths) / timing.median, figure(limit / timing.median)
                rows.append(timing.row(name, images_per_s=figure(rate), share_of_limit=share, image_size=image_size))
                print(f"  {name:28} {rate:6.0f} images/s  {share:5.0%} of the limit (goal: {GOAL:.0%})")
    size = float(np.mean([len(image) for image in contents.numpy()]))
    card = {"images": len(images.paths), "mean_bytes": round(size), "batch_size": BATCH, "rows": rows}
    write_result("pipeline", card, quick=quick)


def ways_of_reading(
    images: ImageList, contents: tf.Tensor, folder: Path, image_size: int, resize_size: int
) -> dict[str, tf.data.Dataset]:
    """Return the data sets to be timed; `folder` contains the images as TFRecord."""
    files = file_split(images, image_size, resize_size)
    records = record_split(folder, images.name, image_size, resize_size)
    decode = functools.partial(decode_image, image_size=image_size, resize_size=resize_size)
    return {
        "JPEG decode without resize": decoded(contents, decode_jpeg),
        "decode limit": decoded(contents, decode),
        "the same, kept in batches": decoded(contents, decode, keep=True),
        "JPEG folder, training": training_batches(files, BATCH, seed=0),
        "JPEG folder, crop and flip": training_batches(files, BATCH, seed=0, flip=True, random_crop=True),
        "JPEG folder, evaluation": evaluation_batches(files, BATCH),
        "TFRecord, training": training_batches(records, BATCH, seed=0),
        "TFRecord, evaluation": evaluation_batches(records, BATCH),
    }


if __name__ == "__main__":
    tyro.cli(main)
