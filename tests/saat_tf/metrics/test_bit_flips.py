"""Flipped bits of pairs of codes, counted bit by bit."""

import numpy as np
import pytest

from saat_tf.metrics import flip_distribution, paired_distances


def random_bits(seed, rows=30, code_length=72):
    return np.random.default_rng(seed).integers(0, 2, (rows, code_length), np.uint8)


def test_pairs_are_counted_bit_by_bit():
    before, after = random_bits(0), random_bits(1)
    after[0], after[1] = before[0], 1 - before[1]
    flips = [sum(int(a != b) for a, b in zip(x, y, strict=True)) for x, y in zip(before, after, strict=True)]
    packed = np.packbits(before, axis=1), np.packbits(after, axis=1)
    assert paired_distances(*packed).tolist() == flips
    assert flips[:2] == [0, 72]
    shares = flip_distribution(*packed)
    assert shares.tolist() == [flips.count(number) / 30 for number in range(73)]
    assert shares @ np.arange(73) == pytest.approx(sum(flips) / 30)


CODES = np.zeros((2, 8), np.uint8)


@pytest.mark.parametrize(
    ("codes", "other", "message"),
    [
        (CODES, CODES[:1], "pair up row by row. Received: 2 and 1"),
        (CODES, CODES[:, :4], "one length. Received: 64 and 32"),
        (CODES.astype(np.float32), CODES, "`codes` must be packed"),
        (CODES, CODES.astype(int), "`other_codes` must be packed"),
    ],
)
def test_what_does_not_pair_up_is_refused(codes, other, message):
    for function in (paired_distances, flip_distribution):
        with pytest.raises(ValueError, match=message):
            function(codes, other)


def test_no_codes_have_no_distribution():
    with pytest.raises(ValueError, match="needs items"):
        flip_distribution(CODES[:0], CODES[:0])
