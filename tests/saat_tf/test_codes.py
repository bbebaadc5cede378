"""Hash codes: the sign of zero, and bits in bytes as `numpy.packbits` has them."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.codes import check_packable, pack_codes, sign, unpack_codes

CODE_LENGTHS = [8, 16, 24, 48, 64, 128]


def both_modes(function, *specs):
    """The function as it is, and in a graph that was traced for any batch."""
    return [function, tf.function(function, input_signature=specs)]


def random_values(code_length, rows=7):
    values = np.random.default_rng(code_length).normal(size=(rows, code_length)).astype(np.float32)
    values[0] = 0.0
    values[1] = -0.0
    values[2, ::2] = 0.0
    return values


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 1), (-0.0, 1), (1e-30, 1), (-1e-30, -1), (3.0, 1), (-3.0, -1), (np.inf, 1), (-np.inf, -1)],
)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_sign_is_plus_one_from_zero_on_and_minus_one_below(value, expected, dtype):
    for function in both_modes(sign, tf.TensorSpec([None], dtype)):
        result = function(tf.constant([value], dtype))
        assert result.dtype == dtype
        assert result.numpy().tolist() == [expected]


def test_sign_has_no_zero_and_keeps_the_shape():
    values = np.random.default_rng(0).integers(-2, 3, (3, 4, 5)).astype(np.float32)
    expected = [-1.0 if v < 0 else 1.0 for v in values.ravel()]
    np.testing.assert_array_equal(sign(values).numpy(), np.reshape(expected, values.shape))


@pytest.mark.parametrize("code_length", CODE_LENGTHS)
def test_packed_bits_are_those_of_numpy_packbits_eagerly_and_for_an_unknown_batch(code_length):
    values = random_values(code_length)
    expected = np.packbits(values >= 0, axis=1)
    for function in both_modes(pack_codes, tf.TensorSpec([None, code_length])):
        for rows in (7, 1, 0):
            result = function(tf.constant(values[:rows]))
            assert result.dtype == tf.uint8
            np.testing.assert_array_equal(result.numpy(), expected[:rows])


@pytest.mark.parametrize("bit", range(16))
def test_the_first_bit_of_a_byte_is_its_most_significant(bit):
    values = np.full((1, 16), -1.0, np.float32)
    values[0, bit] = 1.0
    expected = [2 ** (7 - bit), 0] if bit < 8 else [0, 2 ** (15 - bit)]
    assert pack_codes(values).numpy().tolist() == [expected]


@pytest.mark.parametrize("width", [1, 2, 6, 16])
def test_unpacked_bytes_are_the_bits_of_numpy_unpackbits(width):
    packed = np.random.default_rng(width).integers(0, 256, (9, width), np.uint8)
    expected = 2.0 * np.unpackbits(packed, axis=1) - 1.0
    for function in both_modes(unpack_codes, tf.TensorSpec([None, width], tf.uint8)):
        result = function(tf.constant(packed))
        assert result.dtype == tf.float32
        np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("code_length", CODE_LENGTHS)
def test_codes_survive_packing_and_unpacking(code_length):
    codes = np.where(random_values(code_length) < 0, -1.0, 1.0).astype(np.float32)
    np.testing.assert_array_equal(unpack_codes(pack_codes(codes)).numpy(), codes)


def test_every_byte_survives_unpacking_and_packing():
    packed = np.arange(256, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(pack_codes(unpack_codes(packed)).numpy(), packed)


@pytest.mark.parametrize("code_length", [0, 1, 7, 9, 12, 129])
def test_a_code_length_that_fills_no_whole_bytes_is_refused_with_the_number(code_length):
    with pytest.raises(ValueError, match=f"multiple of 8.*Received: {code_length}"):
        pack_codes(tf.ones((2, code_length)))
    with pytest.raises(ValueError, match="multiple of 8"):
        tf.function(pack_codes).get_concrete_function(tf.TensorSpec([None, code_length]))


@pytest.mark.parametrize("code_length", [-8, 0, 15])
def test_only_positive_multiples_of_eight_are_packable(code_length):
    with pytest.raises(ValueError, match="multiple of 8"):
        check_packable(code_length)
    check_packable(8)
