"""Center and anchor codes, by loops over the items."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.label_codes import anchor_codes, center_codes, jaccard

NUM_CLASSES, BITS = 6, 8


def multi_hot(seed, rows, density=0.3):
    return (np.random.default_rng(seed).random((rows, NUM_CLASSES)) < density).astype(np.float32)


def signs(seed, rows):
    return np.random.default_rng(seed).choice(np.float32([-1, 1]), (rows, BITS))


def similarity(y, other):
    y, other = set(np.flatnonzero(y)), set(np.flatnonzero(other))
    return Fraction(len(y & other), len(y | other)) if y | other else Fraction(0)


def center_by_hand(y, item_labels, item_codes):
    code = []
    for k in range(BITS):
        related, unrelated = [], []
        for labels, item in zip(item_labels, item_codes, strict=True):
            w = similarity(y, labels)
            if w:
                related.append(w * int(item[k]))
            else:
                unrelated.append(int(item[k]))
        score = (sum(related) / len(related) if related else 0) - (
            Fraction(sum(unrelated), len(unrelated)) if unrelated else 0
        )
        code.append(1 if score >= 0 else -1)
    return code


@pytest.mark.parametrize("seed", range(3))
def test_similarity_is_that_of_the_sets(seed):
    a, b = multi_hot(seed, 20), multi_hot(seed + 10, 25)
    a[0] = b[0] = 0
    expected = [[float(similarity(x, y)) for y in b] for x in a]
    np.testing.assert_allclose(jaccard(a, b).numpy(), expected, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("num_items", [2, 12, 20, 60])
def test_center_codes_are_those_of_a_loop_with_exact_fractions(seed, num_items):
    # Few items make exact ties common, and a tie is +1; in float32, some of those of 20 items end below zero.
    item_labels, item_codes, y = multi_hot(seed, num_items), signs(seed, num_items), multi_hot(seed + 50, 30)
    y[0] = 0
    result = tf.function(center_codes)(y, item_labels, item_codes, np.ones(num_items, np.float32)).numpy()
    np.testing.assert_array_equal(result, [center_by_hand(row, item_labels, item_codes) for row in y])


def test_center_codes_of_label_sets_are_those_of_their_items():
    item_labels, item_codes, y = multi_hot(3, 80), signs(3, 80), multi_hot(4, 20)
    sets, index = np.unique(item_labels, axis=0, return_inverse=True)
    sums, counts = np.zeros((len(sets), BITS)), np.bincount(index.reshape(-1))
    np.add.at(sums, index.reshape(-1), item_codes)
    expected = [center_by_hand(row, item_labels, item_codes) for row in y]
    np.testing.assert_array_equal(center_codes(y, sets, sums, counts).numpy(), expected)


def possible_anchors(y, item_labels, item_codes, num_voters):
    """Every vote of items of the greatest similarity."""
    greatest = max(similarity(y, labels) for labels in item_labels)
    voters = [i for i, labels in enumerate(item_labels) if similarity(y, labels) == greatest]
    groups = itertools.combinations(voters, min(num_voters, len(voters)))
    return {tuple(np.where(item_codes[list(group)].sum(axis=0) >= 0, 1, -1).tolist()) for group in groups}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_voters", [1, 2, 3, 9, 100])
def test_anchor_codes_are_votes_of_the_items_most_like_the_label_set(seed, num_voters):
    item_labels, item_codes, y = multi_hot(seed, 12), signs(seed, 12), multi_hot(seed + 50, 15)
    y[:3] = item_labels[:3]
    for draw in range(3):
        result = anchor_codes(y, item_labels, item_codes, num_voters, tf.constant([seed, draw])).numpy()
        for row, code in zip(y, result.tolist(), strict=True):
            assert tuple(code) in possible_anchors(row, item_labels, item_codes, num_voters)


@pytest.mark.parametrize("num_voters", [1, 2])
def test_each_vote_is_drawn_now_and_then_and_its_draw_repeats_with_the_seed(num_voters):
    item_labels = np.float32([[1, 0, 0, 0, 0, 0]] * 4 + [[0, 1, 0, 0, 0, 0]] * 5)
    item_codes = signs(1, 9)
    possible = possible_anchors(item_labels[0], item_labels, item_codes, num_voters)
    run = tf.function(lambda seed: anchor_codes(item_labels[:1], item_labels, item_codes, num_voters, seed))
    drawn = [tuple(run(tf.constant([0, i])).numpy()[0].tolist()) for i in range(80)]
    assert set(drawn) == possible and len(possible) > 2
    assert drawn[:5] == [tuple(run(tf.constant([0, i])).numpy()[0].tolist()) for i in range(5)]


def test_an_anchor_without_voters_is_refused():
    with pytest.raises(ValueError, match=r"`num_voters` must be at least 1. Received: 0"):
        anchor_codes(multi_hot(0, 2), multi_hot(0, 2), signs(0, 2), 0, tf.constant([0, 0]))
