"""Tie rules and denominators: by hand, by every order of the tied items, by exact fractions, and on official labels."""

import gzip
import itertools
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from saat_tf.metrics import DENOMINATORS, average_precisions, mean_average_precision, precision_recall_by_rank

HASH_LISTS = Path(__file__).parents[3] / "../shared/data/hash_lists"
RULES = ("expected", "optimistic", "pessimistic")


def search_case(distances, hits):
    """One query, and items at the given distances of which those with hits[i] = 1 are relevant."""
    bits = (np.arange(16) < np.array(distances)[:, None]).astype(np.uint8)
    return np.zeros((1, 2), np.uint8), np.packbits(bits, axis=1), [[1, 0]], [[1, 0] if hit else [0, 1] for hit in hits]


def score(distances, hits, top_k, rule, denominator):
    case = search_case(distances, hits)
    return float(average_precisions(*case, top_k=top_k, tie_rule=rule, denominator=denominator)[0])


def average_precision_in_order(hits, top_k, denominator):
    found, total = 0, Fraction(0)
    for position, hit in enumerate(hits[:top_k], start=1):
        if hit:
            found += 1
            total += Fraction(found, position)
    divisor = found if denominator == "retrieved" else min(top_k, sum(hits))
    return total / divisor if divisor else Fraction(0)


def all_orders(distances, hits):
    """Every order of the items that their distances allow, as hits by rank; one that can come about twice, twice."""
    pairs = list(zip(distances, hits, strict=True))
    groups = [[hit for other, hit in pairs if other == distance] for distance in sorted({*distances})]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield tuple(itertools.chain(*parts))


@pytest.mark.parametrize(
    ("distances", "hits", "top_k", "denominator", "expected", "optimistic", "pessimistic"),
    [
        # One of two tied items: at rank 1 it scores 1, at rank 2 a half.
        ([0, 0], [1, 0], 2, "retrieved", 3 / 4, 1, 1 / 2),
        # One of three, two ranks: 1, 1/2, or not found.
        ([0, 0, 0], [0, 1, 0], 2, "retrieved", 1 / 2, 1, 0),
        ([0, 0, 0], [0, 1, 0], 2, "relevant", 1 / 2, 1, 0),
        # Two of three, one rank: found in two of three orders.
        ([0, 0, 0], [1, 1, 0], 1, "relevant", 2 / 3, 1, 0),
        # Two of three, two ranks: (1, 1), (1, 0), (0, 1): retrieved 1, 1, 1/2; relevant 1, 1/2, 1/4.
        ([0, 0, 0], [1, 0, 1], 2, "retrieved", 5 / 6, 1, 1 / 2),
        ([0, 0, 0], [1, 0, 1], 2, "relevant", 7 / 12, 1, 1 / 4),
        # A late hit lowers the mean over the hits: without it 1, with it at rank 5 (1 + 2/5) / 2 = 0.7.
        ([0, 1, 2, 3, 4, 4], [1, 0, 0, 0, 1, 0], 5, "retrieved", 0.85, 1, 0.7),
        ([0, 1, 2, 3, 4, 4], [1, 0, 0, 0, 1, 0], 5, "relevant", 0.6, 0.7, 0.5),
        # No ties: all rules are one.
        ([0, 1, 2], [1, 0, 1], None, "retrieved", 5 / 6, 5 / 6, 5 / 6),
        ([0, 1, 2], [1, 0, 1], 2, "relevant", 1 / 2, 1 / 2, 1 / 2),
        # Nothing, or everything, is relevant.
        ([0, 0, 1], [0, 0, 0], 2, "relevant", 0, 0, 0),
        ([0, 0, 1], [1, 1, 1], 2, "retrieved", 1, 1, 1),
    ],
)
def test_ties_worked_by_hand(distances, hits, top_k, denominator, expected, optimistic, pessimistic):
    values = [score(distances, hits, top_k, rule, denominator) for rule in RULES]
    assert values == pytest.approx([expected, optimistic, pessimistic], abs=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_ties_are_the_mean_and_the_extremes_over_every_order(seed):
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, rng.integers(1, 4), 6).tolist()
    hits = rng.integers(0, 2, 6).tolist()
    orders = Counter(all_orders(distances, hits))
    for top_k, denominator in itertools.product(range(1, 7), DENOMINATORS):
        values = {order: average_precision_in_order(order, top_k, denominator) for order in orders}
        mean = sum(values[order] * times for order, times in orders.items()) / orders.total()
        found = [score(distances, hits, top_k, rule, denominator) for rule in RULES]
        brute = [float(v) for v in (mean, max(values.values()), min(values.values()))]
        assert found == pytest.approx(brute, abs=1e-12), (distances, hits, top_k, denominator)


@pytest.mark.parametrize("seed", range(5))
def test_hits_among_the_first_ranks_are_the_mean_and_the_extremes_over_every_order(seed):
    rng = np.random.default_rng(seed)
    distances, hits, cutoffs = rng.integers(0, 3, 6).tolist(), rng.integers(0, 2, 6).tolist(), [1, 2, 3, 4, 5, 6]
    counts = np.array([np.cumsum(order) for order in all_orders(distances, hits)])
    for rule, brute in zip(RULES, (counts.mean(axis=0), counts.max(axis=0), counts.min(axis=0)), strict=True):
        curve = precision_recall_by_rank(*search_case(distances, hits), cutoffs, tie_rule=rule)
        np.testing.assert_allclose(curve.precision[0], brute / cutoffs, atol=1e-12)
        np.testing.assert_allclose(curve.recall[0], brute / max(sum(hits), 1), atol=1e-12)


@pytest.mark.parametrize(
    ("ahead", "tied", "relevant", "shown"), [(0, 300, 120, 100), (7, 500, 20, 450), (3, 90, 88, 5)]
)
def test_a_large_cut_group_has_the_expectation_of_exact_fractions(ahead, tied, relevant, shown):
    # `ahead` relevant items in front, each at its own distance; the score is averaged over how many ties are found.
    def score_of(x):
        total = Fraction(ahead)
        for t in range(1, shown + 1) if x else ():
            share = Fraction(x, shown)
            total += share * (ahead + 1 + (Fraction((t - 1) * (x - 1), shown - 1))) / (ahead + t)
        return total / (ahead + x) if ahead + x else 0

    ways = {
        x: math.comb(relevant, x) * math.comb(tied - relevant, shown - x)
        for x in range(max(0, shown - tied + relevant), min(shown, relevant) + 1)
    }
    expected = sum(score_of(x) * number for x, number in ways.items()) / math.comb(tied, shown)
    distances = [*range(ahead), *[15] * tied]
    hits = [1] * (ahead + relevant) + [0] * (tied - relevant)
    assert score(distances, hits, ahead + shown, "expected", "retrieved") == pytest.approx(float(expected), rel=1e-11)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("top_k", [1, 10, 200, None])
def test_the_stable_order_lies_between_the_bounds_and_the_expectation_too(denominator, top_k):
    rng = np.random.default_rng(2)
    codes, labels = rng.integers(0, 256, (230, 1), np.uint8), (rng.random((230, 4)) < 0.3).astype(np.float32)
    case = codes[:30], codes[30:], labels[:30], labels[30:]
    stable, expected, best, worst = (
        average_precisions(*case, top_k=top_k, tie_rule=rule, denominator=denominator) for rule in ("stable", *RULES)
    )
    for values in (stable, expected):
        assert (worst <= values + 1e-12).all()
        assert (values <= best + 1e-12).all()
    assert (worst < best).any()


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, None])
def test_both_denominators_of_the_stable_rule(top_k):
    hits = [0, 1, 0, 1]
    for denominator in DENOMINATORS:
        expected = float(average_precision_in_order(hits, top_k or 4, denominator))
        assert score([0, 1, 2, 3], hits, top_k, "stable", denominator) == pytest.approx(expected, abs=1e-12)


def test_t_map_is_the_score_with_the_labels_of_the_targets():
    # The attack on a query of the first class is to find the second; the item of that class is at rank 2.
    case = np.uint8([[0]]), np.uint8([[0], [1]])
    labels = [[1, 0], [0, 1]]
    assert mean_average_precision(*case, [[1, 0]], labels) == 1
    assert mean_average_precision(*case, [[0, 1]], labels) == 0.5


def label_bits(split):
    path = HASH_LISTS / f"FLICKR-25K_{split}_label.txt.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the repository, in ../shared/data/hash_lists")
    with gzip.open(path, "rt") as file:
        return [row.split() for row in file]


def test_one_code_for_every_image_of_flickr_25k_scores_what_the_official_labels_say():
    query_rows, database_rows = label_bits("test")[::40], label_bits("database")
    sets = Counter(int("".join(row), base=2) for row in database_rows)
    n = len(database_rows)
    h = math.fsum(1 / t for t in range(1, n + 1))
    expected, worst, found = [], [], 0
    for row in query_rows:
        query = int("".join(row), base=2)
        p = sum(times for labels, times in sets.items() if labels & query)
        # All n items tie: sum_t (p / n) (1 + (t - 1) (p - 1) / (n - 1)) / t, over p.
        expected.append((h + (p - 1) / (n - 1) * (n - h)) / n if p else 0)
        worst.append(sum(j / (n - p + j) for j in range(1, p + 1)) / p if p else 0)
        found += p > 0
    codes = np.zeros((n, 8), np.uint8)
    case = codes[: len(query_rows)], codes, np.array(query_rows, np.uint8), np.array(database_rows, np.uint8)
    brute = [math.fsum(expected) / len(expected), found / len(query_rows), math.fsum(worst) / len(worst)]
    assert [mean_average_precision(*case, tie_rule=rule) for rule in RULES] == pytest.approx(brute, abs=1e-9)
