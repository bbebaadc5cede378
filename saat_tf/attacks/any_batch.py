"""Functions of batches that are traced once, whatever the size of the batch."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


class AnyBatch:
    """Compile `function(rows, *shared)` at its first call, for batches of every size.

    A `tf.function` traces again for a batch of another size, which costs seconds for a network and its gradient; and
    with `reduce_retracing` it does so once more.

    Args:
        function: of a structure of tensors whose first axis is the batch (scalars are left alone), and of tensors that
            are the same for the whole batch.

    Example:
        >>> total = AnyBatch(lambda rows, factor: tf.reduce_sum(rows["x"]) * factor)
        >>> [float(total({"x": tf.ones(size)}, tf.constant(2.0))) for size in (3, 5)]
        [6.0, 10.0]
    """

    def __init__(self, function: Callable) -> None:
        self.function = function
        self._concrete: Callable | None = None

    def __call__(self, rows: tf.Tensor | dict | tuple, *shared: tf.Tensor) -> Any:
        """Return what the function returns."""
        if self._concrete is None:
            specs = tf.nest.map_structure(_of_any_size, rows)
            self._concrete = tf.function(self.function, autograph=False).get_concrete_function(
                specs, *map(tf.TensorSpec.from_tensor, shared)
            )
        return self._concrete(rows, *shared)


def _of_any_size(value: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *value.shape[1:]] if value.shape.rank else [], value.dtype)
