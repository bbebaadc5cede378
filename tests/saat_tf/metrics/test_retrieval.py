"""Average precision by hand and by plain loops, with the order of the database among equal distances."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from saat_tf import hamming
from saat_tf.metrics import average_precisions, chance_map, mean_average_precision, relevance, search

# Official label lists, kept beside the repository where there are any.
HASH_LISTS = Path(__file__).parents[3] / "../shared/data/hash_lists"


def share_a_label(a, b):
    return any(x and y for x, y in zip(a, b, strict=True))


def average_precision_by_loop(query_bits, database_bits, query_labels, database_labels, top_k):
    distances = [sum(a != b for a, b in zip(query_bits, bits, strict=True)) for bits in database_bits]
    order = sorted(range(len(distances)), key=lambda j: (distances[j], j))
    hits, total = 0, 0.0
    for position, j in enumerate(order[:top_k], start=1):
        if share_a_label(query_labels, database_labels[j]):
            hits += 1
            total += hits / position
    return total / hits if hits else 0.0


def random_case(seed, queries=7, items=60, code_length=16, num_classes=5, distinct_codes=None):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (queries + items, code_length), np.uint8)
    if distinct_codes:
        bits = bits[rng.integers(0, distinct_codes, len(bits))]
    labels = (rng.random((len(bits), num_classes)) < 0.25).astype(np.float32)
    labels[0] = 0  # a query without labels
    labels[1] = np.eye(num_classes)[0]
    labels[queries:, 0] = 0  # a query with labels that finds nothing
    return bits[:queries], bits[queries:], labels[:queries], labels[queries:]


def packed(case):
    query_bits, database_bits, query_labels, database_labels = case
    return np.packbits(query_bits, axis=1), np.packbits(database_bits, axis=1), query_labels, database_labels


def ranking(hits):
    """Codes and labels of a database of which the item at rank t, t bits away, is relevant where hits[t] is 1."""
    bits = np.tril(np.ones((len(hits), 16), np.uint8), k=-1)
    labels = [[1, 0] if hit else [0, 1] for hit in hits]
    return np.zeros((1, 2), np.uint8), np.packbits(bits, axis=1), [[1, 0]], labels


@pytest.mark.parametrize(
    ("hits", "top_k", "expected"),
    [
        ([1], None, 1),
        ([0], None, 0),
        ([1, 1, 1, 1], None, 1),
        ([0, 1], None, 1 / 2),
        ([1, 0, 1], None, (1 / 1 + 2 / 3) / 2),
        ([0, 1, 0, 1, 1], None, (1 / 2 + 2 / 4 + 3 / 5) / 3),
        ([0, 0, 0, 1], None, 1 / 4),
        # Only hits among the first k are in the sum and in the denominator.
        ([1, 0, 1, 1], 1, 1),
        ([1, 0, 1, 1], 2, 1),
        ([1, 0, 1, 1], 3, (1 / 1 + 2 / 3) / 2),
        ([0, 0, 1, 1], 2, 0),
        ([0, 1, 1, 1], 2, 1 / 2),
        # k beyond the database is the whole database.
        ([0, 1], 2, 1 / 2),
        ([0, 1], 5000, 1 / 2),
    ],
)
def test_average_precision_worked_by_hand(hits, top_k, expected):
    result = average_precisions(*ranking(hits), top_k=top_k)
    assert result.dtype == np.float64
    assert result.tolist() == [pytest.approx(expected, abs=1e-12)]


CASES = {
    "few ties": {"code_length": 64},
    "many ties": {"code_length": 8},
    "three codes": {"distinct_codes": 3},
    "one code": {"distinct_codes": 1},
    "one item": {"items": 1},
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("top_k", [None, 1, 3, 20, 60, 5000])
@pytest.mark.parametrize("seed", range(3))
def test_average_precisions_are_those_of_a_plain_loop(kind, top_k, seed):
    case = random_case(seed, **CASES[kind])
    query_bits, database_bits, query_labels, database_labels = case
    expected = [
        average_precision_by_loop(bits, database_bits, labels, database_labels, top_k)
        for bits, labels in zip(query_bits, query_labels, strict=True)
    ]
    result = average_precisions(*packed(case), top_k=top_k)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
    assert result[0] == 0  # the query without labels
    assert result[1] == 0  # the query that finds nothing
    mean = mean_average_precision(*packed(case), top_k=top_k)
    assert type(mean) is float
    assert mean == pytest.approx(sum(expected) / len(expected), abs=1e-12)


def test_items_at_one_distance_keep_the_order_of_the_database():
    codes = np.zeros((4, 1), np.uint8)
    for labels, expected in [([1, 1, 0, 0], 1), ([0, 0, 1, 1], (1 / 3 + 2 / 4) / 2)]:
        result = average_precisions(codes[:1], codes, [[1]], [[label] for label in labels])
        assert result.tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize(("block_queries", "block_items"), [(1, 1), (3, 59), (10, 60), (11, 61), (1000, 1000)])
@pytest.mark.parametrize("tie_rule", ["stable", "expected"])
def test_how_the_work_is_shared_out_changes_no_value(monkeypatch, block_queries, block_items, tie_rule):
    case = packed(random_case(5, queries=11))
    expected, chance = average_precisions(*case, top_k=10, tie_rule=tie_rule), chance_map(*case[2:])
    monkeypatch.setattr(search, "BLOCK_QUERIES", block_queries)
    monkeypatch.setattr(hamming, "BLOCK_DISTANCES", block_items)
    monkeypatch.setattr(hamming, "SAMPLE_ITEMS", block_items)
    np.testing.assert_array_equal(average_precisions(*case, top_k=10, tie_rule=tie_rule), expected)
    assert chance_map(*case[2:]) == chance


@pytest.mark.parametrize("code_length", [64, 192, 200, 256, 264])
def test_codes_of_several_words_are_ranked_by_all_their_bits(code_length):
    # With the last bits alone set the distance is in the last word, and with all set it is the largest of all.
    bits = np.zeros((4, code_length), np.uint8)
    bits[1, -1], bits[2] = 1, 1
    codes = np.packbits(bits, axis=1)
    # Distances 0, 1, K, 0 of an irrelevant, a relevant, a relevant and an irrelevant item.
    result = average_precisions(codes[:1], codes, [[1]], [[0], [1], [1], [0]])
    assert result.tolist() == [pytest.approx((1 / 3 + 2 / 4) / 2)]


@pytest.mark.parametrize("num_classes", [1, 63, 64, 65, 130])
def test_the_last_label_counts_as_the_first(num_classes):
    eye = np.eye(num_classes)[[0, -1]]
    assert relevance(eye, eye).tolist() == [[True, num_classes == 1], [num_classes == 1, True]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_relevant_is_what_shares_a_label(seed, dtype):
    _, _, query_labels, database_labels = random_case(seed)
    expected = [[share_a_label(q, d) for d in database_labels] for q in query_labels]
    result = relevance(query_labels.astype(dtype), database_labels.astype(dtype))
    assert result.dtype == bool
    np.testing.assert_array_equal(result, expected)


def test_many_shared_labels_do_not_wrap_in_small_integers():
    ones = np.ones((1, 256), np.uint8)
    assert relevance(ones, ones).tolist() == [[True]]


@pytest.mark.parametrize("seed", range(3))
def test_chance_is_the_share_of_relevant_items_averaged_over_queries(seed):
    _, _, query_labels, database_labels = random_case(seed)
    shares = [sum(share_a_label(q, d) for d in database_labels) / len(database_labels) for q in query_labels]
    assert chance_map(query_labels, database_labels) == pytest.approx(sum(shares) / len(shares), abs=1e-12)


def test_a_ranking_that_knows_nothing_scores_about_chance():
    rng = np.random.default_rng(0)
    labels = np.eye(3)[rng.integers(0, 3, 2020)]
    codes = rng.integers(0, 256, (2020, 4), np.uint8)
    score = mean_average_precision(codes[:20], codes[20:], labels[:20], labels[20:])
    assert score == pytest.approx(chance_map(labels[:20], labels[20:]), abs=0.03)


ONE = np.zeros((1, 2), np.uint8)


@pytest.mark.parametrize(
    ("query_codes", "database_codes", "query_labels", "database_labels", "top_k", "message"),
    [
        (ONE[:0], ONE, [], [[1]], None, "Received: 0 and 1"),
        (ONE, ONE[:0], [[1]], [], None, "Received: 1 and 0"),
        (ONE, ONE, [[1], [1]], [[1]], None, "come in pairs.*1 and 2 for the queries"),
        (ONE, ONE, [[1]], [[1]] * 3, None, "1 and 3 for the database"),
        (ONE, ONE, [[1]], [[1]], 0, "`top_k` must be at least 1. Received: 0"),
        (ONE, ONE, [[1]], [[1]], -5, "`top_k` must be at least 1. Received: -5"),
        (ONE, ONE[:, :1], [[1]], [[1]], None, "one length"),
        (ONE.astype(float), ONE, [[1]], [[1]], None, "`query_codes` must be packed"),
    ],
)
def test_what_cannot_be_scored_is_refused(query_codes, database_codes, query_labels, database_labels, top_k, message):
    for function in (average_precisions, mean_average_precision):
        with pytest.raises(ValueError, match=message):
            function(query_codes, database_codes, query_labels, database_labels, top_k=top_k)


def flickr_rows(split):
    path = HASH_LISTS / f"FLICKR-25K_{split}_label.txt.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the repository, in ../shared/data/hash_lists")
    with gzip.open(path, "rt") as file:
        return [line.split() for line in file]


def test_chance_on_flickr_25k_is_that_of_the_official_label_lists():
    query_rows, database_rows = flickr_rows("test"), flickr_rows("database")

    def as_number(row):
        return int("".join(row), base=2)

    # Label sets as the bits of an integer: two share a label where their AND is not zero.
    queries = Counter(map(as_number, query_rows))
    database = Counter(map(as_number, database_rows))
    pairs = sum(m * n for q, m in queries.items() for d, n in database.items() if q & d)
    expected = pairs / (len(query_rows) * len(database_rows))
    assert expected == pytest.approx(0.53, abs=0.01)
    result = chance_map(np.array(query_rows, np.float32), np.array(database_rows, np.float32))
    assert result == pytest.approx(expected, abs=1e-12)


def test_chance_needs_queries_and_a_database():
    for queries, database in ((np.zeros((0, 2)), np.ones((1, 2))), (np.ones((1, 2)), np.zeros((0, 2)))):
        with pytest.raises(ValueError, match="queries and a database"):
            chance_map(queries, database)


def test_labels_of_different_widths_are_refused():
    with pytest.raises(ValueError, match="one width"):
        relevance(np.ones((1, 2)), np.ones((1, 3)))


@pytest.mark.parametrize("bad", [[[2, 0]], [[0.5, 0]], [[-1, 1]], [[float("nan"), 1]], [0, 1]])
def test_labels_that_are_not_rows_of_zeros_and_ones_are_refused(bad):
    for pair, name in (((bad, [[1, 0]]), "query_labels"), (([[1, 0]], bad), "database_labels")):
        with pytest.raises(ValueError, match=f"`{name}` must be rows of 0 and 1"):
            relevance(*pair)


@pytest.mark.parametrize("option", [{"tie_rule": "random"}, {"denominator": "all"}])
def test_an_unknown_choice_is_refused_with_the_choices(option):
    (name, value), choice = *option.items(), {"tie_rule": "'pessimistic'", "denominator": "'relevant'"}
    for function in (average_precisions, mean_average_precision):
        with pytest.raises(ValueError, match=f"`{name}` must be one of .*{choice[name]}.*Received: '{value}'"):
            function(ONE, ONE, [[1]], [[1]], **option)
