"""How a picture is to be turned, by the EXIF data of its file (EXIF 2.32, tag 0x0112), in TensorFlow operations."""

from collections.abc import Callable

import tensorflow as tf

from saat_tf.data.decoding.fields import begins, has_webp_flag, numbers
from saat_tf.data.decoding.header import PNG, RIFF

EXIF = b"Exif\0\0"
TAG, SHORT, LONG = 0x0112, 3, 4
ENTRY, LONGEST = 12, 2**16
WEBP_EXIF = 0x08
# A camera writes EXIF first. What begins later than this in a JPEG, or after as many parts of a file, is not found.
JPEG_HEAD, MOST_PARTS = 2**16, 1000
UPRIGHT = 1
# Value of the tag: to be transposed, then mirrored left to right, then upside down.
TRANSPOSED, MIRRORED, UPSIDE_DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


def orientation(contents: tf.Tensor) -> tf.Tensor:
    """Read how a picture is to be turned.

    Args:
        contents: scalar string, the bytes of a JPEG, PNG, WebP, GIF or BMP file.

    Returns:
        scalar int32, 1 to 8; 1, upright, where the file does not say, or says anything else.
    """

    def jpeg() -> tf.Tensor:
        return _jpeg_block(contents)

    def png() -> tf.Tensor:
        return _chunk_block(contents, b"eXIf", start=8, length_at=0, kind_at=4, big_endian=True)

    def webp() -> tf.Tensor:
        return _chunk_block(contents, b"EXIF", start=12, length_at=4, kind_at=0, big_endian=False)

    with tf.device("/cpu:0"):
        block = tf.case(
            [
                (tf.io.is_jpeg(contents), lambda: _if_in(tf.strings.substr(contents, 0, JPEG_HEAD), EXIF, jpeg)),
                (begins(contents, PNG), lambda: _if_in(contents, b"eXIf", png)),
                (begins(contents, RIFF) & has_webp_flag(contents, WEBP_EXIF), webp),
            ],
            default=_nothing,
        )
        return tf.cond(block == b"", lambda: tf.constant(UPRIGHT), lambda: _of_tiff(block))


def turn(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Turn a picture (H, W, C) upright by the value of its orientation: (H, W, C) or (W, H, C).

    Example:
        >>> turn(tf.constant([[[1], [2]]]), tf.constant(6)).numpy().tolist()
        [[[1]], [[2]]]
    """

    def among(values: tuple[int, ...]) -> tf.Tensor:
        return tf.reduce_any(value == tf.constant(values))

    def turned() -> tf.Tensor:
        upright = tf.cond(among(TRANSPOSED), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        upright = tf.cond(among(MIRRORED), lambda: tf.reverse(upright, [1]), lambda: upright)
        return tf.cond(among(UPSIDE_DOWN), lambda: tf.reverse(upright, [0]), lambda: upright)

    return tf.cond(value == UPRIGHT, lambda: image, turned)


def _nothing() -> tf.Tensor:
    return tf.constant(b"")


def _if_in(head: tf.Tensor, mark: bytes, read: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Read where `mark` occurs in `head`; most files have no EXIF data, and one operation finds that out."""
    anywhere = rb"\C*" + mark.replace(b"\0", rb"\x00") + rb"\C*"
    return tf.cond(tf.strings.regex_full_match(head, anywhere), read, _nothing)


def _jpeg_block(contents: tf.Tensor) -> tf.Tensor:
    """Find the EXIF data among the segments before the first scan: 0xFF, a marker, and a length that counts itself."""
    data = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, 0, JPEG_HEAD), tf.uint8), tf.int32)
    size = tf.size(data)

    def is_before_exif(place: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        fits = (place + 4 + len(EXIF) <= size) & (part < MOST_PARTS)
        return tf.cond(fits, lambda: ~is_exif(place) & is_segment(place), lambda: False)

    def is_segment(place: tf.Tensor) -> tf.Tensor:
        return (data[place] == 0xFF) & (data[place + 1] != 0xD9) & (data[place + 1] != 0xDA)

    def is_exif(place: tf.Tensor) -> tf.Tensor:
        is_app1 = (data[place] == 0xFF) & (data[place + 1] == 0xE1)
        return is_app1 & (tf.strings.substr(contents, place + 4, len(EXIF)) == EXIF)

    def after(place: tf.Tensor, part: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        marker, length = data[place + 1], 256 * data[place + 2] + data[place + 3]
        step = tf.where(marker == 0xFF, 1, 2 + tf.maximum(length, 2))  # a marker can be filled up by 0xFF
        return place + step, part + 1

    place, _ = tf.while_loop(is_before_exif, after, (2, 0))

    def block() -> tf.Tensor:
        length = 256 * data[place + 2] + data[place + 3]
        return tf.strings.substr(contents, place + 4, tf.maximum(length - 2, 0))

    is_found = tf.cond(place + 4 + len(EXIF) <= size, lambda: is_exif(place), lambda: False)
    return tf.cond(is_found, block, _nothing)


def _chunk_block(
    contents: tf.Tensor, kind: bytes, *, start: int, length_at: int, kind_at: int, big_endian: bool
) -> tf.Tensor:
    """Find the chunk of `kind` of a PNG or WebP file, whose chunks have a length, a kind and as many bytes each."""
    size = tf.strings.length(contents)

    def is_other(place: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        fits = (place >= start) & (place <= size - 8) & (part < MOST_PARTS)
        return tf.cond(fits, lambda: tf.strings.substr(contents, place + kind_at, 4) != kind, lambda: False)

    def length_of(place: tf.Tensor) -> tf.Tensor:
        return numbers(contents, (place + length_at, 4), big_endian=big_endian)[0]

    def after(place: tf.Tensor, part: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = length_of(place)
        padded = length + 4 if big_endian else length + length % 2  # PNG: a checksum
        return place + 8 + tf.where((length < 0) | (length > size), size, padded), part + 1

    place, _ = tf.while_loop(is_other, after, (start, 0))

    def block() -> tf.Tensor:
        length = tf.clip_by_value(length_of(place), 0, tf.minimum(size - place - 8, LONGEST))
        return tf.strings.substr(contents, place + 8, length)

    fits = (place >= start) & (place <= size - 8)
    found = tf.cond(fits, lambda: tf.strings.substr(contents, place + kind_at, 4) == kind, lambda: False)
    return tf.cond(found, block, _nothing)


def _of_tiff(block: tf.Tensor) -> tf.Tensor:
    """Read the tag among the entries of the first directory: each a tag, a type, a count and four bytes of value."""
    block = tf.strings.regex_replace(block, rb"^Exif\x00\x00", b"")
    data = tf.cast(tf.io.decode_raw(block, tf.uint8), tf.int32)
    size = tf.size(data)
    little = begins(block, b"II*\0")

    def number(places: tf.Tensor, start: int | tf.Tensor, length: int) -> tf.Tensor:
        rising = [256**place for place in range(length)]
        digits = places[..., start : start + length]
        return tf.reduce_sum(digits * tf.where(little, rising, rising[::-1]), axis=-1)

    def value() -> tf.Tensor:
        start = number(data, 4, 4)
        start = tf.where((start >= 8) & (start <= size - 2), start, size - 2)  # of what lies outside, nothing is read
        whole = tf.minimum(number(data, start, 2), (size - start - 2) // ENTRY)
        rows = tf.reshape(data[start + 2 : start + 2 + ENTRY * whole], (-1, ENTRY))
        tag, kind, count = number(rows, 0, 2), number(rows, 2, 2), number(rows, 4, 4)
        values = tf.where(kind == SHORT, number(rows, 8, 2), number(rows, 8, 4))
        is_it = (tag == TAG) & ((kind == SHORT) | (kind == LONG)) & (count == 1)
        found = tf.concat([[UPRIGHT], tf.boolean_mask(values, is_it)], axis=0)[-1]
        return tf.where((found >= 1) & (found <= 8), found, UPRIGHT)

    return tf.cond((little | begins(block, b"MM\0*")) & (size >= 8), value, lambda: tf.constant(UPRIGHT))
