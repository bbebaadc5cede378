"""Certified AP against an enumeration of all codes that an attack can reach."""

import itertools

import numpy as np
import pytest

from saat_tf.certify import reachable
from saat_tf.certify.average_precision import certified_average_precisions, interval_average_precisions
from saat_tf.certify.ranking import interval_average_precision
from saat_tf.hamming import hamming_distances
from saat_tf.metrics import average_precisions

CLASSES = 3


def problem(seed, bits=8, queries=3, items=40):
    """Random codes near codes of their classes, with multi-hot labels."""
    random = np.random.default_rng(seed)
    centers = random.integers(0, 2, (CLASSES, bits))
    labels = np.eye(CLASSES, dtype=int)[random.integers(0, CLASSES, queries + items)]
    labels |= random.random(labels.shape) < 0.15
    codes = centers[labels.argmax(axis=1)] ^ (random.random((len(labels), bits)) < 0.2)
    packed = np.packbits(codes, axis=1)
    return packed[:queries], packed[queries:], labels[:queries], labels[queries:]


def extremes(query, database, label, labels, costs, budget, top_k):
    """The least and the largest AP over all reachable codes, by the metric that evaluation uses."""
    bits = np.unpackbits(query)
    values = {"pessimistic": [], "optimistic": []}
    for flips in itertools.product((0, 1), repeat=len(bits)):
        flips = np.array(flips)
        if costs[flips == 1].sum() <= budget:
            code = np.packbits(bits ^ flips)[None]
            for rule, found in values.items():
                found += [
                    average_precisions(
                        code, database, label[None], labels, top_k=top_k, tie_rule=rule, denominator="relevant"
                    )[0]
                ]
    return min(values["pessimistic"]), max(values["optimistic"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("table_bits", [0, 3])
@pytest.mark.parametrize("top_k", [None, 9])
def test_bounds_of_uncertain_bits_are_exact(seed, table_bits, top_k, monkeypatch):
    monkeypatch.setattr(reachable, "TABLE_BITS", table_bits)  # the search has to branch
    queries, database, query_labels, labels = problem(seed)
    uncertain = np.random.default_rng(seed).random((len(queries), 8)) < 0.7
    for bound, place in (("lower", 0), ("upper", 1)):
        scores = certified_average_precisions(
            queries, uncertain, 0, database, query_labels, labels, top_k=top_k, bound=bound
        )
        expected = [
            extremes(q, database, y, labels, np.where(u, 0, np.inf), 0, top_k)[place]
            for q, y, u in zip(queries, query_labels, uncertain, strict=True)
        ]
        assert scores.exact.all()
        assert scores.values == pytest.approx(expected, abs=3e-9)
        assert (scores.values <= expected).all() if bound == "lower" else (scores.values >= expected).all()


@pytest.mark.parametrize("table_bits", [0, 10])
def test_bounds_of_a_joint_budget_are_exact(table_bits, monkeypatch):
    monkeypatch.setattr(reachable, "TABLE_BITS", table_bits)
    queries, database, query_labels, labels = problem(5)
    costs = np.random.default_rng(5).random((len(queries), 8))
    scores = certified_average_precisions(queries, costs, 0.9, database, query_labels, labels)
    expected = [
        extremes(q, database, y, labels, c, 0.9, None)[0] for q, y, c in zip(queries, query_labels, costs, strict=True)
    ]
    assert scores.values == pytest.approx(expected, abs=3e-9)


def test_a_search_that_is_stopped_is_sound_and_looser():
    queries, database, query_labels, labels = problem(7, bits=32, queries=2, items=60)
    uncertain = np.ones((2, 32), bool)
    stopped = certified_average_precisions(queries, uncertain, 0, database, query_labels, labels, seconds=0)
    longer = certified_average_precisions(queries, uncertain, 0, database, query_labels, labels, seconds=0.3)
    assert not stopped.exact.any()
    assert (stopped.values <= longer.values).all()
    for i, (query, label) in enumerate(zip(queries, query_labels, strict=True)):
        # Before any branching the bound is that of distances between nothing and all uncertain bits.
        distances = np.zeros(len(database))
        relevant = (label @ labels.T) > 0
        simple = interval_average_precision(distances, distances + 32, relevant)
        assert stopped.values[i] == pytest.approx(simple, abs=3e-9)
        # No code does worse than the certificate: the opposite of what is relevant, and random ones.
        flips = np.random.default_rng(i).integers(0, 256, (200, 4), np.uint8)
        found = average_precisions(
            query ^ flips, database, np.tile(label, (200, 1)), labels, tie_rule="pessimistic", denominator="relevant"
        )
        assert longer.values[i] <= found.min()


@pytest.mark.slow
def test_up_to_twenty_bits_no_time_limit_applies():
    queries, database, query_labels, labels = problem(9, bits=24, queries=1, items=50)
    uncertain = np.arange(24)[None] < reachable.EXACT_BITS
    assert certified_average_precisions(queries, uncertain, 0, database, query_labels, labels, seconds=0).exact.all()


def test_certain_bits_give_the_ap_of_the_code_and_no_label_gives_zero():
    queries, database, query_labels, labels = problem(2)
    query_labels[0] = 0
    none = np.zeros((3, 8), bool)
    scores = certified_average_precisions(queries, none, 0, database, query_labels, labels)
    expected = average_precisions(
        queries, database, query_labels, labels, tie_rule="pessimistic", denominator="relevant"
    )
    assert scores.values == pytest.approx(expected, abs=2e-9)
    assert scores.values[0] == 0


def test_intervals_of_distances_bound_ap():
    queries, database, query_labels, labels = problem(3)
    distances = hamming_distances(queries, database).astype(int)
    scores = interval_average_precisions(lambda i: (distances[i] - 1, distances[i] + 1), query_labels, labels)
    uncertain = np.arange(8)[None] == np.zeros((3, 1))  # one bit alone moves every distance by one
    one_bit = certified_average_precisions(queries, uncertain, 0, database, query_labels, labels)
    assert (scores.values <= one_bit.values).all()
    assert not scores.exact.any()


def test_bad_input_is_refused():
    queries, database, query_labels, labels = problem(0)
    flips = np.zeros((3, 8), bool)
    for change, message in [
        ({"denominator": "retrieved"}, 'denominator "relevant"'),
        ({"bound": "middle"}, "`bound` must be one of"),
        ({"flip_costs": np.zeros((3, 16), bool)}, r"each query, \(3, 8\). Received: \(3, 16\)"),
        ({"flip_costs": np.full((3, 8), -1.0)}, "at least 0"),
        ({"database_codes": np.zeros((40, 2), np.uint8)}, "codes of one length"),
        ({"database_labels": labels[:5]}, "come in pairs"),
    ]:
        arguments = {
            "query_codes": queries, "flip_costs": flips, "budgets": 0, "database_codes": database,
            "query_labels": query_labels, "database_labels": labels,
        }  # fmt: skip
        with pytest.raises(ValueError, match=message):
            certified_average_precisions(**{**arguments, **change})
