"""Decoding of a batch of files of which some may be damaged: for encoders that serve requests."""

import tensorflow as tf

from saat_tf.data.decoding.decode import GIF, MAX_ASPECT, MAX_PIXELS, decode_image

PNG, BMP, RIFF = b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF"


def decode_batch(contents: tf.Tensor, image_size: int, resize_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode image files by `decode_image`; a file that cannot be read becomes black and fails no other.

    A file whose header declares more than `MAX_PIXELS`, or sides beyond `MAX_ASPECT`, is refused before any pixel is
    decoded. Runs in a graph, on the CPU, one file at a time.

    Args:
        contents: string (B,), the bytes of JPEG, PNG, still WebP, GIF (first picture) or BMP files of any sizes.
        image_size: S, side of the results in pixels.
        resize_size: length of the shorter side before the cut.

    Returns:
        images, float32 (B, S, S, 3) in [0, 1], zero where a file was not read; and ok, bool (B,).

    Example:
        >>> image = tf.io.encode_png(tf.zeros((8, 8, 3), tf.uint8))
        >>> decode_batch(tf.stack([image, b"no image"]), 4, 4)[1].numpy().tolist()
        [True, False]
    """
    blank = tf.data.Dataset.from_tensors((tf.zeros((image_size, image_size, 3)), False))

    def decode(one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        bounded = _check_declared_size(one)
        return decode_image(bounded, image_size, resize_size), True

    def decode_or_blank(one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        decoded = tf.data.Dataset.from_tensors(one).map(decode).ignore_errors()
        return decoded.concatenate(blank).take(1).get_single_element()

    with tf.device("/cpu:0"):
        return tf.map_fn(
            decode_or_blank,
            contents,
            fn_output_signature=(
                tf.TensorSpec((image_size, image_size, 3), tf.float32),
                tf.TensorSpec((), tf.bool),
            ),
        )


def _check_declared_size(contents: tf.Tensor) -> tf.Tensor:
    """Return `contents`; fail where the header declares a size that is refused, or is none of a known format."""
    height, width = tf.unstack(tf.cast(declared_size(contents), tf.int64))
    longer, shorter = tf.maximum(height, width), tf.minimum(height, width)
    fits = (shorter > 0) & (height * width <= MAX_PIXELS) & (longer <= MAX_ASPECT * shorter)
    with tf.control_dependencies([tf.debugging.Assert(fits, ["the image's size is refused", height, width])]):
        return tf.identity(contents)


def declared_size(contents: tf.Tensor) -> tf.Tensor:
    """Read height and width from the header of an image file, without decoding it.

    Args:
        contents: scalar string, the bytes of a JPEG, PNG, WebP, GIF or BMP file.

    Returns:
        int32 (2,): height and width in pixels, as declared; zero where the format is another one.

    Raises:
        tf.errors.InvalidArgumentError: the header is cut short.

    Example:
        >>> declared_size(tf.io.encode_png(tf.zeros((2, 3, 3), tf.uint8))).numpy().tolist()
        [2, 3]
    """

    def begins(magic: bytes) -> tf.Tensor:
        return tf.strings.substr(contents, 0, len(magic)) == magic

    return tf.case(
        [
            (tf.io.is_jpeg(contents), lambda: tf.io.extract_jpeg_shape(contents)[:2]),
            (begins(PNG), lambda: _numbers(contents, (20, 4), (16, 4), big_endian=True)),
            (begins(GIF), lambda: _numbers(contents, (8, 2), (6, 2))),
            (begins(BMP), lambda: tf.abs(_numbers(contents, (22, 4), (18, 4)))),
            (begins(RIFF), lambda: _webp_size(contents)),
        ],
        default=lambda: tf.constant([0, 0]),
    )


def _webp_size(contents: tf.Tensor) -> tf.Tensor:
    kind = tf.strings.substr(contents, 12, 4)
    return tf.case(
        [
            (kind == b"VP8X", lambda: 1 + _numbers(contents, (27, 3), (24, 3))),
            (kind == b"VP8 ", lambda: tf.bitwise.bitwise_and(_numbers(contents, (28, 2), (26, 2)), 0x3FFF)),
            (kind == b"VP8L", lambda: _lossless_webp_size(contents)),
        ],
        default=lambda: tf.constant([0, 0]),
    )


def _lossless_webp_size(contents: tf.Tensor) -> tf.Tensor:
    """Two fields of 14 bits, width first, each one less than the size."""
    bits = _numbers(contents, (21, 4))[0]
    fields = tf.stack([tf.bitwise.right_shift(bits, 14), bits])
    return 1 + tf.bitwise.bitwise_and(fields, 0x3FFF)


def _numbers(contents: tf.Tensor, *places: tuple[int, int], big_endian: bool = False) -> tf.Tensor:
    """Read unsigned numbers at (offset, length in bytes): int32, wrapped above 2^31."""
    values = []
    for offset, length in places:
        digits = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, offset, length), tf.uint8), tf.int32)
        order = range(length - 1, -1, -1) if big_endian else range(length)
        values.append(tf.reduce_sum(digits * tf.constant([256**place for place in order], tf.int32)))
    return tf.stack(values)
