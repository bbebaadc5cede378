"""Precision and recall by rank and by radius, against loops over all items."""

import numpy as np
import pytest

from saat_tf.metrics import precision_recall_by_radius, precision_recall_by_rank

QUERIES, ITEMS, BITS = 6, 40, 16


def random_case(seed):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (QUERIES + ITEMS, BITS), np.uint8)
    labels = (rng.random((QUERIES + ITEMS, 4)) < 0.3).astype(np.float32)
    labels[0] = 0
    return bits[:QUERIES], bits[QUERIES:], labels[:QUERIES], labels[QUERIES:]


def packed(case):
    return np.packbits(case[0], axis=1), np.packbits(case[1], axis=1), *case[2:]


def items_of(case):
    """For each query, (distance, index, relevant) of every item."""
    for bits, labels in zip(case[0], case[2], strict=True):
        yield [
            (int((bits != other).sum()), j, any(a and b for a, b in zip(labels, row, strict=True)))
            for j, (other, row) in enumerate(zip(case[1], case[3], strict=True))
        ]


@pytest.mark.parametrize("seed", range(3))
def test_by_rank_is_the_share_of_hits_among_the_first_items(seed):
    case, cutoffs = random_case(seed), [40, 1, 7, 7, 20]
    curve = precision_recall_by_rank(*packed(case), cutoffs)
    for query, items in enumerate(items_of(case)):
        hits = [relevant for _, _, relevant in sorted(items)]
        for column, n in enumerate(cutoffs):
            assert curve.precision[query, column] == pytest.approx(sum(hits[:n]) / n)
            assert curve.recall[query, column] == pytest.approx(sum(hits[:n]) / max(sum(hits), 1))
    assert curve.recall[0].tolist() == [0] * len(cutoffs)


@pytest.mark.parametrize("seed", range(3))
def test_by_radius_is_the_share_of_hits_among_the_items_within(seed):
    case = random_case(seed)
    curve = precision_recall_by_radius(*packed(case))
    assert curve.precision.shape == curve.recall.shape == (QUERIES, BITS + 1)
    for query, items in enumerate(items_of(case)):
        total = sum(relevant for _, _, relevant in items)
        for radius in range(BITS + 1):
            within = [relevant for distance, _, relevant in items if distance <= radius]
            assert curve.precision[query, radius] == pytest.approx(sum(within) / len(within) if within else 0)
            assert curve.recall[query, radius] == pytest.approx(sum(within) / total if total else 0)
    assert (curve.precision[:, 0] == 0).any()  # nothing lies within radius 0


@pytest.mark.parametrize("cutoffs", [[], [0], [3, 41], [[1, 2]], [-1]])
def test_a_cutoff_outside_the_database_is_refused(cutoffs):
    with pytest.raises(ValueError, match="`cutoffs` must be numbers of items from 1 to the 40"):
        precision_recall_by_rank(*packed(random_case(0)), cutoffs)


def test_an_unknown_tie_rule_is_refused():
    with pytest.raises(ValueError, match=r"'expected'.*Received: 'mean'"):
        precision_recall_by_rank(*packed(random_case(0)), [1], tie_rule="mean")
