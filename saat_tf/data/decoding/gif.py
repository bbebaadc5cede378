"""The first picture of a GIF file, without the others."""

import tensorflow as tf

EXTENSION = 0x21
# Before the colors of the file: signature, width, height, flags, background, aspect; before those of a picture: a
# mark, left, top, width, height, flags.
FILE_HEADER, FILE_FLAGS, PICTURE_HEADER, PICTURE_SIZE, PICTURE_FLAGS = 13, 10, 10, 5, 9


def first_picture(contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Cut an animated GIF file after its first picture.

    A decoder that is asked for the first picture decodes all of them, a byte of the file to as much as a kilobyte of
    memory, and a picture's size may be above that of the file.

    Args:
        contents: scalar string, the bytes of a GIF file.
        max_pixels: the largest picture that is let through.

    Returns:
        scalar string, the bytes of a GIF file of one picture.

    Raises:
        tf.errors.InvalidArgumentError: the first picture is cut short or larger than `max_pixels`.

    Example:
        >>> still = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0, 44, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 68, 1, 0])
        >>> first_picture(tf.constant(still + still[13:] + b";"), 100).numpy() == still + b";"
        True
    """
    data = tf.io.decode_raw(contents, tf.uint8)
    length = tf.size(data)

    def byte(place: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.Assert(place < length, ["the GIF file is cut short"])]):
            return tf.cast(data[place], tf.int32)

    def past_colors(place: tf.Tensor, flags: tf.Tensor) -> tf.Tensor:
        has_table = tf.bitwise.bitwise_and(flags, 0x80) > 0
        return place + tf.where(has_table, 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7)), 0)

    def past_blocks(place: tf.Tensor) -> tf.Tensor:
        """Skip blocks, each of a length and as many bytes, up to the one of length zero."""
        return 1 + tf.while_loop(lambda at: byte(at) > 0, lambda at: (at + 1 + byte(at),), (place,))[0]

    start = past_colors(tf.constant(FILE_HEADER), byte(tf.constant(FILE_FLAGS)))
    start = tf.while_loop(lambda at: byte(at) == EXTENSION, lambda at: (past_blocks(at + 2),), (start,))[0]
    width, height = (byte(start + i) + 256 * byte(start + i + 1) for i in (PICTURE_SIZE, PICTURE_SIZE + 2))
    fits = tf.cast(width, tf.int64) * tf.cast(height, tf.int64) <= max_pixels
    with tf.control_dependencies([tf.debugging.Assert(fits, ["a picture of the GIF is too large", width, height])]):
        pixels = past_colors(start + PICTURE_HEADER, byte(start + PICTURE_FLAGS))
    end = past_blocks(pixels + 1)  # past the width of the first code, too
    return tf.strings.join([tf.strings.substr(contents, 0, end), b";"])
