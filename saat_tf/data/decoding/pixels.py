"""From the bytes of an image file to its pixels, upright and opaque, in TensorFlow operations; see docs/images.md."""

import tensorflow as tf

from saat_tf.data.decoding.fields import begins, has_webp_flag, numbers
from saat_tf.data.decoding.gif import WHITE, decode_first_picture
from saat_tf.data.decoding.header import BMP, GIF, MAX_PIXELS, PNG, WEBP_ANIMATION
from saat_tf.data.decoding.orientation import orientation, turn

# Says that a JPEG's four inks are stored inverted. A marker of the file itself comes later and overrides it.
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
INKS = 4
PNG_ALPHA = 0x04
CONTENTS = [tf.TensorSpec((), tf.string)]


def decode_pixels(contents: tf.Tensor, *, apply_orientation: bool = True) -> tf.Tensor:
    """Decode an image file as viewers show it: turned as its EXIF data say, on white where it is transparent.

    Args:
        contents: scalar string, the bytes of a JPEG, PNG, still WebP, GIF (first picture) or BMP file.
        apply_orientation: turn it; otherwise the pixels are left as they are stored.

    Returns:
        uint8 (H, W, 3).

    Raises:
        tf.errors.InvalidArgumentError: it cannot be decoded.
    """
    return _upright(contents) if apply_orientation else _stored(contents)


# Functions of their own, so that they are traced once a process and not once for each data set that decodes by them.
@tf.function(input_signature=CONTENTS)
def _upright(contents: tf.Tensor) -> tf.Tensor:
    return turn(_stored(contents), orientation(contents))


@tf.function(input_signature=CONTENTS)
def _stored(contents: tf.Tensor) -> tf.Tensor:
    image = tf.case(
        [
            (tf.io.is_jpeg(contents), lambda: _jpeg(contents)),
            (begins(contents, PNG), lambda: _png(contents)),
            (begins(contents, GIF), lambda: decode_first_picture(contents, MAX_PIXELS)),
            (begins(contents, BMP), lambda: _bmp(contents)),
        ],
        default=lambda: _on_white(_webp(contents)),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _jpeg(contents: tf.Tensor) -> tf.Tensor:
    """Decode by the accurate transform, which makes pixels those of PIL; TensorFlow's fast one is off by up to ten
    levels, as much as an attack.
    """
    is_inks = tf.io.extract_jpeg_shape(contents)[2] == INKS

    def marked() -> tf.Tensor:
        return tf.strings.join([tf.strings.substr(contents, 0, 2), ADOBE, tf.strings.substr(contents, 2, 2**31 - 1)])

    marked_contents = tf.cond(is_inks, marked, lambda: contents)
    return tf.io.decode_jpeg(marked_contents, channels=3, dct_method="INTEGER_ACCURATE")


def _png(contents: tf.Tensor) -> tf.Tensor:
    """Decode to four channels where the file says what is transparent: of depths below 8, TensorFlow makes opaque
    pixels transparent where it does not.
    """
    has_alpha = tf.bitwise.bitwise_and(numbers(contents, (25, 1))[0], PNG_ALPHA) > 0
    is_clear = has_alpha | tf.strings.regex_full_match(contents, rb"\C*tRNS\C*")

    def opaque() -> tf.Tensor:
        return tf.io.decode_png(contents, channels=3)

    return tf.cond(is_clear, lambda: _on_white(tf.io.decode_png(contents, channels=4)), opaque)


def _bmp(contents: tf.Tensor) -> tf.Tensor:
    """Decode a file of 24 bits without what some programs append to it, which TensorFlow refuses."""
    offset, width, height = tf.unstack(tf.cast(numbers(contents, (10, 4), (18, 4), (22, 4)), tf.int64))
    end = offset + (3 * width + 3) // 4 * 4 * tf.abs(height)
    length = tf.cast(tf.clip_by_value(end, 0, 2**31 - 1), tf.int32)
    return tf.io.decode_bmp(tf.strings.substr(contents, 0, length), channels=3)


def _webp(contents: tf.Tensor) -> tf.Tensor:
    """Decode a still file to as many channels as it has, 3 or 4: those of an animation overrun TensorFlow's memory."""
    is_still = ~has_webp_flag(contents, WEBP_ANIMATION)
    with tf.control_dependencies([tf.debugging.Assert(is_still, ["the WebP file is animated"])]):
        still = tf.identity(contents)
    return tf.io.decode_image(still, expand_animations=False)


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Lay (H, W, 3 or 4), the last channel alpha, on white."""
    color, alpha = image[..., :3], image[..., 3:]

    def blended() -> tf.Tensor:
        weight = tf.cast(alpha, tf.int32)
        return tf.cast((tf.cast(color, tf.int32) * weight + WHITE * (255 - weight) + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_any(alpha < 255), blended, lambda: color)
