"""Decoding of files of which some may be damaged or hostile: for encoders that serve requests, and to check data."""

import tensorflow as tf

from saat_tf.data.decoding.decode import decode_image
from saat_tf.data.decoding.fields import begins, count, has_webp_flag, is_webp, numbers
from saat_tf.data.decoding.header import (
    BMP,
    BMP_BITS,
    BMP_HEADER,
    GIF,
    MAX_ASPECT,
    MAX_PACKED_TEXTS,
    MAX_PIXELS,
    MAX_SCANS,
    PACKED_TEXTS,
    PNG,
    RIFF,
    WEBP_ANIMATION,
    fault_of,
)
from saat_tf.data.decoding.pixels import decode_pixels
from saat_tf.images import ImageSize, image_shape


def decode_batch(
    contents: tf.Tensor, image_size: ImageSize, resize_size: ImageSize, *, apply_orientation: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode image files by `decode_image`; a file that cannot be read becomes black and fails no other.

    A file that docs/images.md says is refused by its header, is refused before any pixel is decoded. Runs in a graph,
    on the CPU, one file at a time.

    Args:
        contents: string (B,), the bytes of JPEG, PNG, still WebP, GIF (first picture) or BMP files of any sizes.
        image_size: S, side of the results in pixels, or (height, width).
        resize_size: length of the shorter side before the cut.
        apply_orientation: as in `decode_image`.

    Returns:
        images, float32 (B, S, S, 3) in [0, 1], zero where a file was not read; and ok, bool (B,).

    Example:
        >>> image = tf.io.encode_png(tf.zeros((8, 8, 3), tf.uint8))
        >>> decode_batch(tf.stack([image, b"no image"]), 4, 4)[1].numpy().tolist()
        [True, False]
    """
    blank = tf.data.Dataset.from_tensors((tf.zeros(image_shape(image_size)), False))

    def decode(one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode_image(checked(one), image_size, resize_size, apply_orientation=apply_orientation)
        return image, True

    def decode_or_blank(one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        decoded = tf.data.Dataset.from_tensors(one).map(decode).ignore_errors()
        return decoded.concatenate(blank).take(1).get_single_element()

    with tf.device("/cpu:0"):
        return tf.map_fn(
            decode_or_blank,
            contents,
            fn_output_signature=(
                tf.TensorSpec(image_shape(image_size), tf.float32),
                tf.TensorSpec((), tf.bool),
            ),
        )


def decoding_fault(contents: bytes) -> str | None:
    """Decode a file as `decode_batch` does, and say what is wrong with it, or None.

    Example:
        >>> decoding_fault(b"GIF89")
        'its header is cut short or damaged'
    """
    try:
        _decodes(tf.constant(contents))
    except tf.errors.OpError:
        return fault_of(contents)
    return None


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def _decodes(contents: tf.Tensor) -> tf.Tensor:
    with tf.device("/cpu:0"):
        return tf.shape(decode_pixels(checked(contents)))


def checked(contents: tf.Tensor) -> tf.Tensor:
    """Return the bytes of a file; fail where its header is refused, so that no decoder sees it.

    Args:
        contents: scalar string.

    Raises:
        tf.errors.InvalidArgumentError: `header.refusal` says why, or the header is cut short or damaged.
    """
    height, width, is_read = tf.case(
        [
            (tf.io.is_jpeg(contents), lambda: _jpeg(contents)),
            (begins(contents, PNG), lambda: _png(contents)),
            (begins(contents, GIF), lambda: (*_sizes(contents, (8, 2), (6, 2)), True)),
            (begins(contents, BMP), lambda: _bmp(contents)),
            (begins(contents, RIFF), lambda: _webp(contents)),
        ],
        default=lambda: (0, 0, False),
    )
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    longer, shorter = tf.maximum(height, width), tf.minimum(height, width)
    fits = (shorter > 0) & (height * width <= MAX_PIXELS) & (longer <= MAX_ASPECT * shorter)
    with tf.control_dependencies([tf.debugging.Assert(fits & is_read, ["the header is refused", height, width])]):
        return tf.identity(contents)


def _sizes(contents: tf.Tensor, *places: tuple[int, int], big_endian: bool = False) -> tuple[tf.Tensor, ...]:
    return tuple(tf.unstack(numbers(contents, *places, big_endian=big_endian)))


def _jpeg(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Count the starts of scans: 0xFF 0xDA, a length of 6 + 2 n, and n, from 1 to 4."""
    data = tf.io.decode_raw(contents, tf.uint8)
    at = tf.where(data[: tf.maximum(tf.size(data) - 4, 0)] == 0xFF)[:, 0]
    at = tf.boolean_mask(at, tf.gather(data, at + 1) == 0xDA)
    high, low, components = (tf.gather(data, at + offset) for offset in (2, 3, 4))
    is_start = (high == 0) & (low == 6 + 2 * components) & (components >= 1) & (components <= 4)
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(contents))
    return height, width, tf.math.count_nonzero(is_start) <= MAX_SCANS


def _png(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    data = tf.io.decode_raw(contents, tf.uint8)
    texts = tf.add_n([count(data, kind) for kind in PACKED_TEXTS])
    return *_sizes(contents, (20, 4), (16, 4), big_endian=True), texts <= MAX_PACKED_TEXTS


def _bmp(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    header_bytes, width, height, bits, compression = _sizes(contents, (14, 4), (18, 4), (22, 4), (28, 2), (30, 4))
    return tf.abs(height), width, (header_bytes >= BMP_HEADER) & (bits == BMP_BITS) & (compression == 0)


def _webp(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return *tf.unstack(_webp_size(contents)), ~has_webp_flag(contents, WEBP_ANIMATION)


def _webp_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.case(
        [
            (is_webp(contents, b"VP8X"), lambda: 1 + numbers(contents, (27, 3), (24, 3))),
            (is_webp(contents, b"VP8 "), lambda: tf.bitwise.bitwise_and(numbers(contents, (28, 2), (26, 2)), 0x3FFF)),
            (is_webp(contents, b"VP8L"), lambda: _lossless_webp_size(contents)),
        ],
        default=lambda: tf.constant([0, 0]),
    )


def _lossless_webp_size(contents: tf.Tensor) -> tf.Tensor:
    """Two fields of 14 bits, width first, each one less than the size."""
    bits = numbers(contents, (21, 4))[0]
    fields = tf.stack([tf.bitwise.right_shift(bits, 14), bits])
    return 1 + tf.bitwise.bitwise_and(fields, 0x3FFF)
