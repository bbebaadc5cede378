"""Measure how fast images are read, without a model: `python -m benchmarks.pipeline`.

Corel-5K's database as a folder of JPEG files and as TFRecord, at the paper's resize 256 and crop 224 and at the sizes
of `trainers.corel5k`. The decode limit is `decode_image` alone on all cores, from memory, its pixels thrown away: no
files, no order, no labels, no batches. What batches alone cost is measured beside it. The ways are taken in turns,
after a pass of each that is not counted.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from saat_tf.data import (
    decode_image,
    evaluation_batches,
    file_split,
    read_image_lists,
    record_split,
    training_batches,
    write_records,
)
from saat_tf.data.pipeline import PARALLEL_CALLS

DATA_DIR = Path("../shared/data/corel5k")
SIZES = ((224, 256), (64, 64))
BATCH, REPEATS, GOAL = 32, 3, 0.9


def seconds(batches: tf.data.Dataset) -> float:
    """Take every batch once, and return the time."""
    started = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - started


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


def main() -> None:
    """Print images/s of each way of reading, and its share of the decode limit."""
    images = read_image_lists(DATA_DIR).database
    contents = tf.constant([path.read_bytes() for path in images.paths])
    size = np.mean([len(image) for image in contents.numpy()]) / 1e3
    print(f"{len(images.paths)} JPEG files, {size:.1f} kB each, batch {BATCH}, "
          f"{os.cpu_count()} cores, median of {REPEATS} passes in turns; goal: {GOAL:.0%} of the limit")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_records(images, Path(folder))
        for image_size, resize_size in SIZES:
            files = file_split(images, image_size, resize_size)
            records = record_split(Path(folder), images.name, image_size, resize_size)
            decode = functools.partial(decode_image, image_size=image_size, resize_size=resize_size)
            ways = {
                "JPEG decode without resize": decoded(contents, decode_jpeg),
                "decode limit": decoded(contents, decode),
                "the same, kept in batches": decoded(contents, decode, keep=True),
                "JPEG folder, training": training_batches(files, BATCH, seed=0),
                "JPEG folder, crop and flip": training_batches(files, BATCH, seed=0, flip=True, random_crop=True),
                "JPEG folder, evaluation": evaluation_batches(files, BATCH),
                "TFRecord, training": training_batches(records, BATCH, seed=0),
                "TFRecord, evaluation": evaluation_batches(records, BATCH),
            }
            passes = [{name: seconds(way) for name, way in ways.items()} for _ in range(REPEATS + 1)][1:]
            rates = {name: len(images.paths) / float(np.median([taken[name] for taken in passes])) for name in ways}
            print(f"resize {resize_size}, crop {image_size}")
            for name, rate in rates.items():
                print(f"  {name:28} {rate:6.0f} images/s  {rate / rates['decode limit']:5.0%} of the limit")


if __name__ == "__main__":
    main()
