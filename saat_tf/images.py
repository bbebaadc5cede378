"""The one check of images that a model or an attack is given: float32 in [0, 1], of the model's size."""

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import tensorflow as tf

NOT_FINITE = (
    "`images` contain a pixel that is NaN or infinite. Received: at least one. Look at how they are read and scaled."
)
OUTSIDE = "`images` contain a pixel outside of [0, 1]. Divide pixels of 0..255 by 255."

# Side of a square in pixels, or height and width.
ImageSize = int | Sequence[int]


def image_shape(size: ImageSize) -> tuple[int, int, int]:
    """Return the shape of an image of a size: (height, width, 3).

    Args:
        size: side of a square in pixels, or (height, width).

    Raises:
        ValueError: it is neither.

    Example:
        >>> image_shape(32), image_shape((48, 64))
        ((32, 32, 3), (48, 64, 3))
    """
    sides = (size, size) if isinstance(size, Integral) else size
    if (
        not isinstance(sides, Sequence)
        or len(sides) != 2
        or not all(isinstance(side, Integral) and int(side) > 0 for side in sides)
    ):
        raise ValueError(f"`image_size` must be a number of pixels or (height, width). Received: {size!r}.")
    return int(sides[0]), int(sides[1]), 3


def image_size_of(shape: Sequence[int]) -> ImageSize:
    """Return the size of images of a shape (height, width, ...): the side where they are square.

    Example:
        >>> image_size_of((32, 32, 3)), image_size_of((48, 64, 3))
        (32, (48, 64))
    """
    height, width = shape[:2]
    return height if height == width else (height, width)


def checked_images(images: tf.Tensor, size: ImageSize | None = None) -> tf.Tensor:
    """Return `images` as a float32 tensor (B, H, W, 3), after a look at type, shape and pixels.

    A batch may be empty. While a graph is traced there are no pixels to look at: there the same faults end the graph
    when it runs. `valid_images` is for graphs that are to report it and continue.

    Args:
        images: floats in [0, 1].
        size: of the images, where there is a model that asks for it; by default any height and width.

    Raises:
        ValueError: they are not floats of the shape; uint8 pixels must be divided by 255 first. Or a pixel is NaN,
            infinite or outside of [0, 1].
        tf.errors.InvalidArgumentError: such a pixel in a graph, when it runs.

    Example:
        >>> checked_images(tf.zeros((0, 8, 8, 3)), size=8).shape
        TensorShape([0, 8, 8, 3])
        >>> checked_images(tf.fill((1, 8, 8, 3), 255.0))
        Traceback (most recent call last):
        ValueError: `images` contain a pixel outside of [0, 1]. Divide pixels of 0..255 by 255. Received: ...
    """
    images = shaped_images(images, size)
    if not tf.executing_eagerly():
        finite = tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(images)), [NOT_FINITE])
        with tf.control_dependencies([finite]):
            inside = tf.debugging.Assert(
                tf.reduce_all(valid_images(images)), [OUTSIDE, tf.reduce_min(images), tf.reduce_max(images)]
            )
        with tf.control_dependencies([finite, inside]):
            return tf.identity(images)
    if not tf.reduce_all(tf.math.is_finite(images)):
        raise ValueError(NOT_FINITE)
    if not tf.reduce_all(valid_images(images)):
        raise ValueError(f"{OUTSIDE} Received: {float(tf.reduce_min(images))} to {float(tf.reduce_max(images))}.")
    return images


def shaped_images(images: tf.Tensor, size: ImageSize | None = None) -> tf.Tensor:
    """Return `images` as a float32 tensor (B, H, W, 3), after a look at type and shape alone.

    Raises:
        ValueError: they are not floats of the shape.
    """
    try:
        images = tf.convert_to_tensor(images)
    except (ValueError, TypeError):  # None, a ragged list, an array of objects
        kind = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise _not_images(kind, size) from None
    check_image_spec(tf.TensorSpec(images.shape, images.dtype), size)
    return tf.cast(images, tf.float32)


def check_image_spec(spec: tf.TensorSpec, size: ImageSize | None = None) -> None:
    """Check type and shape of images, such as those of a data set's batches.

    Raises:
        ValueError: they are not floats of the shape.

    Example:
        >>> check_image_spec(tf.TensorSpec((None, 8, 8, 3)), size=8)
    """
    height, width = (None, None) if size is None else image_shape(size)[:2]
    if not spec.dtype.is_floating or not spec.shape.is_compatible_with((None, height, width, 3)):
        raise _not_images(f"{spec.dtype.name} of shape {tuple(spec.shape)}", size)


def _not_images(received: str, size: ImageSize | None) -> ValueError:
    sides = "S, S" if size is None else "{}, {}".format(*image_shape(size))
    return ValueError(
        f"`images` must be floats in [0, 1] of shape (batch, {sides}, 3). Received: {received}. Divide uint8 pixels by "
        "255."
    )


def valid_images(images: tf.Tensor) -> tf.Tensor:
    """Tell of each image, float (B, H, W, 3), whether all its pixels are in [0, 1]: bool (B,). NaN is not.

    Example:
        >>> valid_images(tf.reshape([1.0, 1.5, float("nan")], (3, 1, 1, 1))).numpy().tolist()
        [True, False, False]
    """
    return tf.reduce_all((images >= 0.0) & (images <= 1.0), axis=(1, 2, 3))
