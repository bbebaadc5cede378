"""The one check of labels, for data, training and attacks: rows of 0 and 1, and for classifiers class numbers."""

import numpy as np
import tensorflow as tf

EXPECTED = "must be rows of 0 and 1, of shape (items, classes)"
EXPECTED_CLASSES = "`labels` must be class numbers, integers of shape (items,), at least 0 and"
CLASSES_REMEDY = "One-hot rows become class numbers by argmax(axis=1)."
UNKNOWN_LABELS = "`labels` have a set of labels that no item of the code bank has."
UNKNOWN_REMEDY = "Call `adapt` of a new training model with the data set that `fit` gets."
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
    if tf.executing_eagerly():
        values = check_labels(labels.numpy() if tf.is_tensor(labels) else labels, name)
        return tf.constant(values.astype(np.float32))
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank not in (2, None):
        raise ValueError(f"`{name}` {EXPECTED}. Received: {labels.dtype.name} of shape {labels.shape}. {REMEDY}")
    labels = tf.cast(labels, tf.float32)
    known = tf.reduce_all((labels == 0.0) | (labels == 1.0))
    received = [f"`{name}` {EXPECTED}. {REMEDY}", tf.reduce_min(labels), tf.reduce_max(labels)]
    with tf.control_dependencies([tf.debugging.Assert(known, received)]):
        return tf.identity(labels)


def checked_classes(classes: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Return class numbers as int32 (B,), checked: at once where they are values, else when the graph runs.

    Raises:
        ValueError: they are no integers (B,) in [0, `num_classes`), of an eager tensor or an array.
        tf.errors.InvalidArgumentError: a number outside of that, of a tensor in a graph.
    """
    classes = tf.convert_to_tensor(classes)
    expected = f"{EXPECTED_CLASSES} below {num_classes}"
    if classes.shape.rank not in (1, None) or not classes.dtype.is_integer:
        raise ValueError(f"{expected}. Received: {classes.dtype.name} of shape {classes.shape}. {CLASSES_REMEDY}")
    known = tf.reduce_all((classes >= 0) & (classes < num_classes))
    low, high = tf.reduce_min(classes), tf.reduce_max(classes)
    if not tf.executing_eagerly():
        with tf.control_dependencies([tf.debugging.Assert(known, [f"{expected}.", low, high])]):
            return tf.cast(classes, tf.int32)
    if not known:
        raise ValueError(f"{expected}. Received: values from {int(low)} to {int(high)}.")
    return tf.cast(classes, tf.int32)
