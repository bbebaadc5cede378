"""The first picture of a GIF file on its canvas, as viewers show it, without the others."""

import tensorflow as tf

EXTENSION, GRAPHIC_CONTROL = 0x21, 0xF9
# Before the colors of the file: signature, width, height, flags, background, aspect; before those of a picture: a
# mark, left, top, width, height, flags.
FILE_HEADER, FILE_FLAGS, PICTURE_HEADER, PICTURE_PLACE, PICTURE_FLAGS = 13, 10, 10, 1, 9
WHITE = 255


def decode_first_picture(contents: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Decode the first picture of a GIF file.

    Args:
        contents: scalar string, the bytes of a GIF file.
        max_pixels: the largest canvas that is let through.

    Returns:
        uint8 (H, W, 3), the size of the canvas; white where the picture is transparent or does not reach.

    Raises:
        tf.errors.InvalidArgumentError: the first picture is cut short, not within the canvas, or the canvas larger
            than `max_pixels`.
    """
    file, borders = first_picture(contents, max_pixels)
    image = tf.io.decode_gif(file)[0]
    return tf.pad(image, tf.concat([borders, [[0, 0]]], axis=0), constant_values=WHITE)


def first_picture(contents: tf.Tensor, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Make a GIF file of the first picture of another alone.

    A decoder that is asked for the first picture decodes all of them, a byte of the file to as much as a kilobyte of
    memory, and a picture's size may be above that of the file. TensorFlow's knows no transparency: the transparent
    color is made white.

    Args:
        contents: scalar string, the bytes of a GIF file.
        max_pixels: the largest canvas that is let through.

    Returns:
        scalar string, the bytes of a GIF file of one picture, which fills it; and int32 (2, 2), the rows above and
        below it on the canvas, and the columns left and right.

    Raises:
        tf.errors.InvalidArgumentError: as `decode_first_picture`.

    Example:
        >>> still = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0, 44, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 68, 1, 0])
        >>> first_picture(tf.constant(still + still[13:] + b";"), 100)[0].numpy() == still + b";"
        True
    """
    length = tf.strings.length(contents)
    data = tf.cast(tf.io.decode_raw(tf.strings.join([contents, b"\0"]), tf.uint8), tf.int32)

    def byte(place: tf.Tensor) -> tf.Tensor:
        """Read a byte, 0 past the end: that ends blocks, so a picture that is cut short ends past the file."""
        return tf.gather(data, tf.minimum(place, length))

    def pair(place: tf.Tensor) -> tf.Tensor:
        return byte(place) + 256 * byte(place + 1)

    def color_bytes(flags: tf.Tensor) -> tf.Tensor:
        has_table = tf.bitwise.bitwise_and(flags, 0x80) > 0
        return tf.where(has_table, 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7)), 0)

    def past_blocks(place: tf.Tensor) -> tf.Tensor:
        """Skip blocks, each of a length and as many bytes, up to the one of length zero."""
        return 1 + tf.while_loop(lambda at: byte(at) > 0, lambda at: (at + 1 + byte(at),), (place,))[0]

    def past_extension(place: tf.Tensor, transparent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Skip an extension; one with a transparent color has flags, a time of two bytes, and that color."""
        is_control = (byte(place + 1) == GRAPHIC_CONTROL) & (byte(place + 2) >= 4)

        def color() -> tf.Tensor:
            return tf.where(tf.bitwise.bitwise_and(byte(place + 3), 1) > 0, byte(place + 6), -1)

        return past_blocks(place + 2), tf.cond(is_control, color, lambda: transparent)

    def part(start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        return tf.strings.substr(contents, start, end - start)

    def whitened(start: tf.Tensor, size: tf.Tensor, transparent: tf.Tensor) -> tf.Tensor:
        """Return a table of colors in which the transparent one is white."""
        place, end = start + 3 * transparent, start + size

        def changed() -> tf.Tensor:
            return tf.strings.join([part(start, place), b"\xff\xff\xff", part(place + 3, end)])

        return tf.cond((transparent >= 0) & (3 * transparent < size), changed, lambda: part(start, end))

    file_colors = color_bytes(byte(tf.constant(FILE_FLAGS)))
    start, transparent = tf.while_loop(
        lambda at, _: byte(at) == EXTENSION, past_extension, (FILE_HEADER + file_colors, tf.constant(-1))
    )
    left, top, width, height = (pair(start + PICTURE_PLACE + 2 * i) for i in range(4))
    borders = tf.stack([[top, pair(tf.constant(8)) - top - height], [left, pair(tf.constant(6)) - left - width]])
    canvas = tf.cast(pair(tf.constant(6)), tf.int64) * tf.cast(pair(tf.constant(8)), tf.int64)
    colors = start + PICTURE_HEADER
    own_colors = color_bytes(byte(start + PICTURE_FLAGS))
    end = past_blocks(colors + own_colors + 1)  # past the width of the first code, too
    checks = [
        tf.debugging.Assert(end <= length, ["the GIF file is cut short"]),
        tf.debugging.Assert(canvas <= max_pixels, ["the canvas of the GIF is too large", canvas]),
        tf.debugging.Assert(tf.reduce_all(borders >= 0), ["a picture of the GIF is not within its canvas", borders]),
    ]
    with tf.control_dependencies(checks):  # before any part is read, since the end lies behind all others
        contents = tf.identity(contents)
    size = part(start + PICTURE_PLACE + 4, start + PICTURE_FLAGS)
    file = [
        part(tf.constant(0), tf.constant(6)),
        size,
        part(tf.constant(FILE_FLAGS), tf.constant(FILE_HEADER)),
        whitened(tf.constant(FILE_HEADER), file_colors, transparent),
        b",\0\0\0\0",
        size,
        part(start + PICTURE_FLAGS, colors),
        whitened(colors, own_colors, transparent),
        part(colors + own_colors, end),
        b";",
    ]
    return tf.strings.join(file), borders
