"""The one check of labels, for data, training and attacks: rows of 0 and 1."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

EXPECTED = "must be rows of 0 and 1, of shape (items, classes)"
REMEDY = "Labels of -1/1 become 0/1 by (labels + 1) / 2, class numbers by one-hot rows."


def check_labels(labels: np.ndarray, name: str = "labels") -> np.ndarray:
    """Check label rows in memory.

    Args:
        labels: (N, C) of 0/1, of any dtype; N may be 0.
        name: what the message calls them.

    Returns:
        The labels, an array.

    Raises:
        ValueError: they are no matrix, or contain a value other than 0 and 1.

    Example:
        >>> check_labels([[1, 0], [0, 1]]).shape
        (2, 2)
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not ((labels == 0) | (labels == 1)).all():
        values = f" with values {np.unique(labels)[:5].tolist()}" if labels.ndim == 2 else ""
        raise ValueError(f"`{name}` {EXPECTED}. Received: {labels.dtype} of shape {labels.shape}{values}. {REMEDY}")
    return labels


def checked_labels(labels: tf.Tensor, name: str = "labels") -> tf.Tensor:
    """Return label rows as float32 (B, C), checked: at once where they are values, else when the graph runs.

    Raises:
        ValueError: as `check_labels`, of an eager tensor or an array.
        tf.errors.InvalidArgumentError: the same, of a tensor in a graph.
    """
    labels = tf.convert_to_tensor(labels)
    if tf.executing_eagerly():
        check_labels(labels.numpy(), name)
        return tf.cast(labels, tf.float32)
    if labels.shape.rank not in (2, None):
        raise ValueError(f"`{name}` {EXPECTED}. Received: {labels.dtype.name} of shape {labels.shape}. {REMEDY}")
    labels = tf.cast(labels, tf.float32)
    known = tf.reduce_all((labels == 0.0) | (labels == 1.0))
    received = [f"`{name}` {EXPECTED}. {REMEDY} Received: values from", tf.reduce_min(labels), tf.reduce_max(labels)]
    with tf.control_dependencies([tf.debugging.Assert(known, received)]):
        return tf.identity(labels)


def checked_batches(data: object) -> object:
    """Return a data set of (images, labels, index) whose labels are checked as its batches are drawn.

    In the input pipeline the check costs a step nothing, on every device and under XLA. Anything else is returned as it
    is.
    """
    if not isinstance(data, tf.data.Dataset) or not _is_triple(data.element_spec):
        return data
    return data.map(lambda images, labels, index: (images, checked_labels(labels), index))


@contextlib.contextmanager
def label_errors() -> Iterator[None]:
    """Turn the error of a check in a graph into the `ValueError` of an eager one."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if EXPECTED not in str(error):
            raise
        raise ValueError(f"`labels` {EXPECTED}. Received: others. {REMEDY}") from error


class LabeledFit:
    """Mixin of what trains on batches of (images, labels, index), in front of the Keras model whose `fit` it checks."""

    def fit(self, x: object = None, y: np.ndarray | None = None, **options: Any) -> keras.callbacks.History:
        """Fit as Keras does, on batches of (images, labels, index).

        Raises:
            ValueError: labels of a batch are not 0 and 1, before its step.
        """
        if y is not None:
            check_labels(y)
        with label_errors():
            return super().fit(checked_batches(x), y, **options)  # type: ignore[misc]  # that of the Keras model


def _is_triple(spec: object) -> bool:
    return isinstance(spec, tuple) and len(spec) == 3
