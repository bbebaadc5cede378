"""Numbers and patterns in the bytes of a file, read by TensorFlow operations, so that an exported graph reads them."""

import tensorflow as tf


def begins(contents: tf.Tensor, magic: bytes) -> tf.Tensor:
    """Return whether a scalar string begins with `magic`."""
    return tf.strings.substr(contents, 0, len(magic)) == magic


def numbers(contents: tf.Tensor, *places: tuple[int | tf.Tensor, int], big_endian: bool = False) -> tf.Tensor:
    """Read unsigned numbers at (offset, length in bytes).

    Args:
        contents: scalar string.
        places: where the numbers are, of at most 4 bytes each.
        big_endian: whether the first byte is the highest.

    Returns:
        int32 (len(places),), wrapped above 2^31.

    Raises:
        tf.errors.InvalidArgumentError: a number lies outside of the string.
    """
    # TensorFlow's own error of a place outside quotes the file, whose bytes Python cannot make a message of.
    ends = tf.reduce_max([offset + length for offset, length in places])
    is_inside = tf.debugging.Assert(ends <= tf.strings.length(contents), ["the file is cut short"])
    with tf.control_dependencies([is_inside]):
        contents = tf.identity(contents)
    values = []
    for offset, length in places:
        digits = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, offset, length), tf.uint8), tf.int32)
        order = range(length - 1, -1, -1) if big_endian else range(length)
        values.append(tf.reduce_sum(digits * tf.constant([256**place for place in order], tf.int32)))
    return tf.stack(values)


def is_webp(contents: tf.Tensor, kind: bytes) -> tf.Tensor:
    """Return whether a file is WebP and its first chunk of a kind: VP8X (extended), "VP8 " (lossy) or VP8L."""
    return tf.strings.regex_full_match(tf.strings.substr(contents, 0, 16), rb"RIFF\C{4}WEBP" + kind)


def has_webp_flag(contents: tf.Tensor, flag: int) -> tf.Tensor:
    """Return whether the extended header of a WebP file, if it has one, sets a flag."""
    extended = is_webp(contents, b"VP8X") & (tf.strings.length(contents) > 20)
    return tf.cond(extended, lambda: tf.bitwise.bitwise_and(numbers(contents, (20, 1))[0], flag) > 0, lambda: False)


def count(data: tf.Tensor, pattern: bytes) -> tf.Tensor:
    """Count where `pattern` occurs in bytes, uint8 (n,): a scalar int32.

    Example:
        >>> int(count(tf.io.decode_raw(b"abcabd", tf.uint8), b"ab"))
        2
    """
    last = tf.maximum(tf.size(data) - len(pattern) + 1, 0)
    at = tf.where(data[:last] == pattern[0])[:, 0]  # few: what follows looks at these alone
    found = tf.ones_like(at, tf.bool)
    for offset, value in enumerate(pattern[1:], 1):
        found &= tf.gather(data, at + offset) == value
    return tf.reduce_sum(tf.cast(found, tf.int32))
