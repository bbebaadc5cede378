"""Batches of images and labels, checked where they are drawn, and errors of those checks in a graph."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from saat_tf.images import NOT_FINITE, OUTSIDE, ImageSize, checked_images
from saat_tf.labels import EXPECTED, EXPECTED_CLASSES, UNKNOWN_LABELS

# (images, labels), or with an index (images, labels, index) -> the same, checked.
Check = Callable[..., tuple[tf.Tensor, ...]]
KINDS = (
    "Expected arrays, a tf.data.Dataset of batches (images, labels) or (images, labels, index), or a generator of such "
    "batches."
)
ROWS_CHECKED_AT_A_TIME = 256
EXPECTED_INDEX = "The index of a batch must say which items of the training set it has"
BATCH = "A batch must be (images, labels) or (images, labels, index)"
NO_ITEMS = "A batch must have items. Received: none. Leave out empty batches, such as those that a filter leaves."
# What the checks in a graph say at first.
CHECKS = (EXPECTED, EXPECTED_CLASSES, EXPECTED_INDEX, UNKNOWN_LABELS, NOT_FINITE, OUTSIDE, NO_ITEMS)


def batch_check(
    check_labels: Callable[[tf.Tensor], tf.Tensor], image_size: ImageSize | None = None, *, num_items: int | None = None
) -> Check:
    """Make a function that checks a batch: at once where it has values, else when the graph runs.

    Args:
        check_labels: checks and returns labels.
        image_size: of the images that the model takes; any by default.
        num_items: items that an index may name; any by default.
    """

    def check(images: tf.Tensor, labels: tf.Tensor, *index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = checked_images(images, image_size), check_labels(labels), *(_checked_index(i, num_items) for i in index)
        counts = [part.shape[:1] for part in parts]
        if not all(count.is_compatible_with(counts[0]) for count in counts):
            raise ValueError(
                "The parts of a batch must have an item for each image. Received: "
                f"{' and '.join(str(count[0]) for count in counts)} items. Give one row of labels for each image."
            )
        return parts

    return check


def with_items(parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
    """Return the parts of a batch, or raise `ValueError` where it is empty: at once or when the graph runs."""
    if tf.executing_eagerly():
        if not len(parts[0]):
            raise ValueError(NO_ITEMS)
        return parts
    with tf.control_dependencies([tf.debugging.Assert(tf.shape(parts[0])[0] > 0, [NO_ITEMS])]):
        return tuple(tf.identity(part) for part in parts)


def _checked_index(index: tf.Tensor, num_items: int | None) -> tf.Tensor:
    index = tf.convert_to_tensor(index)
    if not index.dtype.is_integer or index.shape.rank not in (1, None):
        raise ValueError(
            f"{EXPECTED_INDEX}: integers of shape (items,). Received: {index.dtype.name} of shape {index.shape}."
        )
    index = tf.cast(index, tf.int64)
    if num_items is None:
        return index
    known, expected = tf.reduce_all((index >= 0) & (index < num_items)), f"{EXPECTED_INDEX}, in [0, {num_items})"
    low, high = tf.reduce_min(index), tf.reduce_max(index)
    if not tf.executing_eagerly():
        with tf.control_dependencies([tf.debugging.Assert(known, [f"{expected}.", low, high])]):
            return tf.identity(index)
    if not known:
        raise ValueError(f"{expected}. Received: values from {int(low)} to {int(high)}.")
    return index


def parts_of(batch: object) -> tuple:
    """Return the two or three parts of a batch, or of its specification.

    Raises:
        ValueError: it has not those.
    """
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        count = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ValueError(f"{BATCH}. Received: {count}. `dataset.map` can put it in this form.")
    return tuple(batch)


def checked_batches(dataset: tf.data.Dataset, check: Check) -> tf.data.Dataset:
    """Return a data set whose batches are checked as they are drawn, before a step sees them.

    In the input pipeline the check costs a step nothing, on every device and under XLA.

    Raises:
        ValueError: its elements are no batches of that kind.
    """
    parts_of(dataset.element_spec)
    return dataset.map(tf.autograph.experimental.do_not_convert(lambda *parts: check(*parts)))


def is_array(x: object) -> bool:
    """Tell whether `x` is an array or a tensor in memory."""
    return hasattr(x, "__array__") and hasattr(x, "shape")


def check_images_in_memory(x: Any, image_size: ImageSize) -> None:
    """Check images float32 (N, H, W, 3) in memory, where they are that.

    Raises:
        ValueError: as `saat_tf.images.checked_images`.
    """
    if is_array(x):
        parts = [x[rows] for rows in blocks(x.shape[0])] if x.shape else []
        for part in parts or [x]:
            checked_images(part, image_size)


def blocks(count: int) -> Iterator[slice]:
    """Yield the parts of so many rows that are checked at a time, which bounds the memory for it."""
    return (slice(start, start + ROWS_CHECKED_AT_A_TIME) for start in range(0, count, ROWS_CHECKED_AT_A_TIME))


def checked_arrays(x: Any, y: Any, check: Check) -> tuple[Any, np.ndarray]:
    """Check images (N, S, S, 3) and labels (N, ...) in memory, and return both, the labels as `check` casts them.

    Raises:
        ValueError: one of them is not what the model takes, or they are not as many, or there are none.
    """
    if y is None:
        raise ValueError(f"`y` must have the labels of the images `x`. Received: None. {KINDS}")
    x, y = (part if is_array(part) else np.asarray(part) for part in (x, y))
    if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
        raise ValueError(
            f"`x` and `y` must be as many. Received: shapes {tuple(x.shape)} and {tuple(y.shape)}. Give the labels of "
            "each image."
        )
    if not x.shape[0]:
        raise ValueError("`x` and `y` must have items. Received: none. Look at what they were selected by.")
    return x, np.concatenate([check(x[rows], y[rows])[1].numpy() for rows in blocks(x.shape[0])])


@contextlib.contextmanager
def batch_errors() -> Iterator[None]:
    """Turn the error of a check in a graph into the `ValueError` of an eager one."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        told = _told(str(error))
        if told is None:
            raise
        raise ValueError(told) from None


def _told(message: str) -> str | None:
    """Return what an eager check would say, of the message of one in a graph; None where it is of something else."""
    if not any(text in message for text in CHECKS):
        return None
    if raised := re.search(r"^ValueError: (.*)$", message, flags=re.MULTILINE):  # by a generator
        return raised[1]
    found = re.search(r"assertion failed: \[(.*?[.\]])\](?: \[(\S+)\] \[(\S+)\])?\s", message, flags=re.DOTALL)
    if found is None:
        return message
    return found[1] if found[2] is None else f"{found[1]} Received: values from {found[2]} to {found[3]}."
