"""Bounds of AP by distances, against every ranking that the intervals allow."""

import itertools

import numpy as np
import pytest

from saat_tf.certify.ranking import interval_average_precision, outward, tied_bounds
from saat_tf.metrics.ties import harmonic_numbers


def ap(hits, top_k, num_relevant):
    """AP@k by its definition, in plain Python."""
    found, total = 0, 0.0
    for rank, hit in enumerate(hits[:top_k], 1):
        if hit:
            found += 1
            total += found / rank
    return total / max(1, min(top_k, num_relevant))


def all_rankings(nearest, farthest, relevant):
    """Every order of the items that distances in steps of 1/2 within the intervals and any order of ties give."""
    choices = [np.arange(a, b + 0.25, 0.5) for a, b in zip(nearest, farthest, strict=True)]
    for distances in itertools.product(*choices):
        for ties in itertools.permutations(range(len(relevant))):
            order = sorted(range(len(relevant)), key=lambda i: (distances[i], ties[i]))
            yield [relevant[i] for i in order]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("top_k", [2, 4])
def test_interval_bounds_are_the_extremes_of_all_rankings(seed, top_k):
    random = np.random.default_rng(seed)
    nearest = random.integers(0, 3, 4)
    farthest = nearest + random.integers(0, 2, 4)
    relevant = random.random(4) < 0.5
    values = [ap(hits, top_k, relevant.sum()) for hits in all_rankings(nearest, farthest, relevant)]
    bounds = [
        interval_average_precision(nearest, farthest, relevant, top_k=top_k, bound=bound)
        for bound in ("lower", "upper")
    ]
    assert bounds == pytest.approx([min(values), max(values)])


def test_fields_denominator_is_not_monotone():
    # Hits + - + by the hits among the first k, against + - -: losing a hit raises the score.
    assert (1 + 2 / 3) / 2 == pytest.approx(5 / 6)
    assert ap([1, 0, 1], 3, 2) == pytest.approx(5 / 6)
    assert ap([1, 0, 0], 3, 2) == pytest.approx(1 / 2)  # with the fixed denominator it falls


@pytest.mark.parametrize("seed", range(6))
def test_counts_give_what_items_give(seed):
    random = np.random.default_rng(seed)
    distances, relevant = random.integers(0, 6, 30), random.random(30) < 0.4
    for top_k, bound in itertools.product((1, 7, 30), ("lower", "upper")):
        counts = np.bincount(distances, minlength=8), np.bincount(distances[relevant], minlength=8)
        value = tied_bounds(*counts, top_k, relevant.sum(), harmonic_numbers(30), bound)
        assert value == pytest.approx(
            interval_average_precision(distances, distances, relevant, top_k=top_k, bound=bound)
        )


def test_bounds_are_moved_outward_within_the_unit_interval():
    assert outward(np.array([0.0, 0.5]), "lower").tolist() == [0.0, 0.5 - 1e-9]
    assert outward(np.array([1.0, 0.5]), "upper").tolist() == [1.0, 0.5 + 1e-9]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval_average_precision([1], [0], [True]), "empty interval"),
        (lambda: interval_average_precision([0], [0], [True], bound="both"), "`bound` must be one of"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
