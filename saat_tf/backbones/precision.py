"""The precision in which a backbone computes."""

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import keras

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


@contextlib.contextmanager
def layers_of(precision: Precision) -> Iterator[None]:
    """Within, layers that are made without a dtype compute in `precision`; afterwards as before.

    The models of keras.applications take no dtype but Keras' global policy, which is put back also after an error. It
    is that of the thread, so no other thread sees it.

    Args:
        precision: "float32", or one of the mixed policies, which keep weights in float32 and compute in 16 bits.

    Raises:
        ValueError: there is no such precision.

    Example:
        >>> with layers_of("mixed_bfloat16"):
        ...     layer = keras.layers.Dense(3)
        >>> layer.compute_dtype, layer.variable_dtype, keras.layers.Dense(3).compute_dtype
        ('bfloat16', 'float32', 'float32')
    """
    if precision not in get_args(Precision):
        raise ValueError(f"`precision` must be one of {', '.join(get_args(Precision))}. Received: {precision!r}.")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
