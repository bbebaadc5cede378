"""Hash codes in their three forms: relaxed in [-1, 1], signed in {-1, +1}, and packed into bytes.

The one rule for sign(0): zero becomes +1. It applies to codes, for mainstay codes and for exported encoders.
"""

import tensorflow as tf

BITS_PER_BYTE = 8


def sign(values: tf.Tensor) -> tf.Tensor:
    """Turn relaxed codes or logits into hash codes: +1 where `values >= 0`, else -1.

    Args:
        values: float tensor of any shape.

    Returns:
        Tensor of the same shape and dtype, every entry -1 or +1 (never 0, unlike `tf.sign`).

    Example:
        >>> sign(tf.constant([-0.3, 0.0, 2.0])).numpy().tolist()
        [-1.0, 1.0, 1.0]
    """
    values = tf.convert_to_tensor(values)
    one = tf.ones((), values.dtype)
    return tf.where(values >= 0, one, -one)


def check_packable(code_length: int) -> None:
    """Raise `ValueError` unless `code_length` bits fill whole bytes."""
    if code_length <= 0 or code_length % BITS_PER_BYTE:
        raise ValueError(
            f"Packed codes need a code length that is a positive multiple of {BITS_PER_BYTE}. "
            f"Received: {code_length}. Use 16, 32, 48, 64 or 128 bits."
        )


def pack_codes(values: tf.Tensor) -> tf.Tensor:
    """Pack codes, relaxed codes or logits into bytes, most significant bit first.

    Bit k of a row is 1 where `values[:, k] >= 0`. The arithmetic is int32, which stays exact when a graph is
    converted to full-integer TFLite, where float packing does not.

    Args:
        values: float tensor (B, K), K a multiple of 8.

    Returns:
        uint8 tensor (B, K / 8).

    Raises:
        ValueError: K is unknown or not a positive multiple of 8, or there are not two dimensions.

    Example:
        >>> pack_codes(tf.constant([[1.0, -1, -1, -1, -1, -1, -1, 1]])).numpy().tolist()
        [[129]]
    """
    values = tf.convert_to_tensor(values)
    if values.shape.rank != 2 or values.shape[-1] is None:
        raise ValueError(f"`values` must be (batch, bits) with a known number of bits. Received: {values.shape}.")
    code_length = values.shape[-1]
    check_packable(code_length)
    bits = tf.cast(values >= 0, tf.int32)
    bits = tf.reshape(bits, (-1, code_length // BITS_PER_BYTE, BITS_PER_BYTE))  # (B, K) -> (B, K/8, 8)
    place_values = tf.constant([128, 64, 32, 16, 8, 4, 2, 1], tf.int32)
    return tf.cast(tf.reduce_sum(bits * place_values, axis=-1), tf.uint8)  # (B, K/8, 8) -> (B, K/8)


def unpack_codes(packed_codes: tf.Tensor) -> tf.Tensor:
    """Turn packed codes back into hash codes; the inverse of `pack_codes` on codes of -1 and +1.

    Args:
        packed_codes: uint8 tensor (B, K / 8), most significant bit first.

    Returns:
        float32 tensor (B, K), every entry -1 or +1.

    Example:
        >>> unpack_codes(tf.constant([[129]], tf.uint8)).numpy().tolist()
        [[1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0]]
    """
    packed_codes = tf.convert_to_tensor(packed_codes)
    shifts = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
    bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(packed_codes[..., None], shifts), tf.constant(1, tf.uint8))
    bits = tf.reshape(bits, (-1, packed_codes.shape[-1] * BITS_PER_BYTE))  # (B, K/8, 8) -> (B, K)
    return 2.0 * tf.cast(bits, tf.float32) - 1.0
