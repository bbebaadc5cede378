"""The one check of images that a model or an attack is given: float32 in [0, 1], of the model's size."""

import tensorflow as tf

NOT_FINITE = "`images` contain a pixel that is NaN or infinite."
OUTSIDE = "`images` contain a pixel outside of [0, 1]. Divide pixels of 0..255 by 255."


def checked_images(images: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """Return `images` as a float32 tensor (B, S, S, 3), after a look at type, shape and pixels.

    A batch may be empty. While a graph is traced there are no pixels to look at: there the same faults end the graph
    when it runs. `valid_images` is for graphs that are to report it and continue.

    Args:
        images: floats in [0, 1].
        size: S, where there is a model that asks for it; by default any height and width.

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


def shaped_images(images: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """Return `images` as a float32 tensor (B, S, S, 3), after a look at type and shape alone.

    Raises:
        ValueError: they are not floats of the shape.
    """
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating or not images.shape.is_compatible_with((None, size, size, 3)):
        side = "S" if size is None else size
        raise ValueError(
            f"`images` must be floats in [0, 1] of shape (batch, {side}, {side}, 3). Received: {images.dtype.name} of "
            f"shape {tuple(images.shape)}. Divide uint8 pixels by 255."
        )
    return tf.cast(images, tf.float32)


def valid_images(images: tf.Tensor) -> tf.Tensor:
    """Tell of each image, float (B, H, W, 3), whether all its pixels are in [0, 1]: bool (B,). NaN is not.

    Example:
        >>> valid_images(tf.reshape([1.0, 1.5, float("nan")], (3, 1, 1, 1))).numpy().tolist()
        [True, False, False]
    """
    return tf.reduce_all((images >= 0.0) & (images <= 1.0), axis=(1, 2, 3))
