"""From the bytes of an image file to the pixels that a model sees: the one function for training and evaluation."""

import tensorflow as tf

from saat_tf.data.decoding.pixels import decode_pixels
from saat_tf.images import ImageSize, image_shape


def decode_image(
    contents: tf.Tensor,
    image_size: ImageSize,
    resize_size: ImageSize,
    *,
    crop_seed: tf.Tensor | None = None,
    apply_orientation: bool = True,
) -> tf.Tensor:
    """Decode an image file, resize its shorter side to `resize_size` and cut out a square, or a rectangle.

    Bilinear with antialiasing, as PIL does it; the aspect ratio is kept. Only the cut is computed, not the image
    around it. Training, evaluation and export call this one function. It trusts the header: `check_images` and
    `decode_batch` look at it first.

    Args:
        contents: scalar string, the bytes of a JPEG, PNG, still WebP, GIF (first frame) or BMP file.
        image_size: S, side of the result in pixels, or (height, width).
        resize_size: length of the shorter side before the cut, at least `image_size`; or the (height, width) that the
            image before the cut just covers.
        crop_seed: integer (2,), which decides where to cut, each place as likely; the middle by default.
        apply_orientation: turn the image as its EXIF data say; otherwise it is taken as it is stored.

    Returns:
        float32 (S, S, 3) in [0, 1], or (height, width, 3).

    Raises:
        ValueError: the cut is larger than what it is cut from.

    Example:
        >>> red = tf.io.encode_png(tf.zeros((20, 30, 3), tf.uint8) + tf.constant([255, 0, 0], tf.uint8))
        >>> decode_image(red, image_size=8, resize_size=10)[4, 4].numpy().tolist()
        [1.0, 0.0, 0.0]
    """
    cut, whole = image_shape(image_size), image_shape(resize_size)
    if cut[0] > whole[0] or cut[1] > whole[1]:
        raise ValueError(f"`image_size` must be at most `resize_size`. Received: {image_size} and {resize_size}.")
    image = decode_pixels(contents, apply_orientation=apply_orientation)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    wanted = tf.constant(whole[:2], tf.float32)
    shorter = tf.argmax(wanted / size)  # the side that must grow most
    resized = tf.round(size * wanted[shorter] / size[shorter])
    room = resized - tf.constant(cut[:2], tf.float32)
    if crop_seed is None:
        top_left = tf.floor(room / 2)
    else:
        top_left = tf.floor(tf.random.stateless_uniform((2,), crop_seed) * (room + 1))
    # tf.image.resize is this operation without the translation, which makes it compute what the cut throws away.
    image = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis],
        size=cut[:2],
        scale=resized / size,
        translation=-top_left,
        kernel_type="triangle",
        antialias=True,
    )[0]  # (H, W, 3) -> (S, S, 3)
    # A product, since optimized graphs turn a division into one and others do not, which differ in the last bit. The
    # weights of a pixel are positive, and their sum may round to more than 1.
    return tf.minimum(tf.ensure_shape(image, cut) * (1 / 255), 1.0)
