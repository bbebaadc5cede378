"""Hamming distances against a comparison bit by bit, and the stable ranking."""

import numpy as np
import pytest

from saat_tf.hamming import hamming_distances, rank


def random_bits(seed, rows, code_length):
    return np.random.default_rng(seed).integers(0, 2, (rows, code_length), np.uint8)


def distances_bit_by_bit(query_bits, database_bits):
    return [[sum(int(a != b) for a, b in zip(q, d, strict=True)) for d in database_bits] for q in query_bits]


@pytest.mark.parametrize("code_length", range(8, 129, 8))
def test_distances_count_the_bits_that_differ(code_length):
    queries, database = random_bits(code_length, 5, code_length), random_bits(code_length + 1, 11, code_length)
    queries[0], queries[1] = database[0], 1 - database[0]
    result = hamming_distances(np.packbits(queries, axis=1), np.packbits(database, axis=1))
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, distances_bit_by_bit(queries, database))
    assert (result[0, 0], result[1, 0]) == (0, code_length)


@pytest.mark.parametrize("code_length", [256, 512, 1000, 4096])
def test_distances_beyond_one_byte_do_not_wrap(code_length):
    bits = random_bits(0, 1, code_length)
    packed = np.packbits(bits, axis=1)
    assert hamming_distances(packed, ~packed).tolist() == [[code_length]]


def test_strided_and_read_only_codes_serve():
    packed = np.random.default_rng(3).integers(0, 256, (8, 10), np.uint8)
    packed.setflags(write=False)
    every_other = packed[::2, 1::2]
    expected = distances_bit_by_bit(np.unpackbits(every_other, axis=1), np.unpackbits(every_other, axis=1))
    np.testing.assert_array_equal(hamming_distances(every_other, every_other), expected)


@pytest.mark.parametrize(("queries", "items"), [(0, 3), (3, 0), (0, 0)])
def test_no_queries_or_no_items_give_an_empty_matrix(queries, items):
    result = hamming_distances(np.zeros((queries, 2), np.uint8), np.zeros((items, 2), np.uint8))
    assert result.shape == (queries, items)


@pytest.mark.parametrize(
    ("query_codes", "database_codes", "message"),
    [
        (np.ones((2, 2), np.float32), np.ones((2, 2), np.uint8), "`query_codes` must be packed.*float32.*pack_codes"),
        (np.ones((2, 2), np.uint8), np.ones((2, 2), np.int64), "`database_codes` must be packed.*int64"),
        (np.ones(2, np.uint8), np.ones((2, 2), np.uint8), r"`query_codes`.*shape \(2,\)"),
        (np.ones((2, 2), np.uint8), np.ones((2, 2, 1), np.uint8), "`database_codes`"),
        (np.ones((2, 2), np.uint8), np.ones((2, 3), np.uint8), "Received: 16 and 24 bits"),
    ],
)
def test_what_is_no_pair_of_packed_codes_is_refused(query_codes, database_codes, message):
    with pytest.raises(ValueError, match=message):
        hamming_distances(query_codes, database_codes)


@pytest.mark.parametrize("largest", [0, 1, 3, 64])
@pytest.mark.parametrize("top_k", [None, 1, 5, 60, 61, 1000])
def test_equal_distances_keep_the_order_of_the_database(largest, top_k):
    distances = np.random.default_rng(largest).integers(0, largest + 1, (4, 60)).astype(np.uint16)
    expected = [sorted(range(60), key=lambda j, row=row: (row[j], j))[:top_k] for row in distances.tolist()]
    np.testing.assert_array_equal(rank(distances, top_k), expected)
