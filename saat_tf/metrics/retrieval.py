"""Quality of a ranking by Hamming distance: average precision, its mean, and chance."""

import numpy as np

from saat_tf.hamming import rank
from saat_tf.metrics.search import Search, each_block, pack_labels, share_labels
from saat_tf.metrics.ties import TIE_RULES, harmonic_numbers, tied_average_precision

TIE_RULE = "stable"
DENOMINATORS = ("retrieved", "relevant")


def relevance(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    """Tell which items are relevant: those that share at least one label with the query.

    Args:
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.

    Returns:
        bool (Q, N).

    Raises:
        ValueError: the two differ in width or contain a value other than 0 and 1.

    Example:
        >>> relevance([[1, 0]], [[1, 1], [0, 1]]).tolist()
        [[True, False]]
    """
    queries, database = pack_labels(query_labels, database_labels)
    return each_block(lambda block: share_labels(queries[:, block], database), queries.shape[1], database.shape[1])


def average_precisions(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    *,
    top_k: int | None = None,
    tie_rule: str = TIE_RULE,
    denominator: str = "retrieved",
) -> np.ndarray:
    """Compute AP@k of each query.

    With r_t = 1 where the item at rank t is relevant,

        AP@k = sum_{t <= k} r_t (r_1 + ... + r_t) / t  /  D

    D is the denominator: "retrieved" = r_1 + ... + r_k, the hits among the first k, as this field does; "relevant" =
    min(k, relevant items in the whole database), with which a query is not rewarded for finding little. The two agree
    where k is the whole database. A query without a hit, one without labels included, counts 0.

    Codes of K bits know only K + 1 distances, so most ranks are ties. `tie_rule` says how they count: "stable" keeps
    the order of the database among equal distances; "expected" is the expectation over all orders of the tied items;
    "optimistic" and "pessimistic" are the largest and the smallest value that any order gives. All three are exact,
    for ties across rank k as well (`saat_tf.metrics.ties` has the formulas).

    The values are one a query so that the worst case over several attacks can be kept for each query, and intervals
    drawn from them. For t-MAP, the score of a targeted attack, pass the targets' labels as `query_labels`.

    Args:
        query_codes: uint8 (Q, K / 8), packed.
        database_codes: uint8 (N, K / 8), packed.
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.
        top_k: k; the whole database by default.
        tie_rule: "stable", "expected", "optimistic" or "pessimistic".
        denominator: "retrieved" or "relevant".

    Returns:
        float64 (Q,), each in [0, 1].

    Raises:
        ValueError: no query, an empty database, codes and labels of different numbers, labels that are not 0/1,
            `top_k` below 1, or an unknown `tie_rule` or `denominator`.

    Example:
        >>> case = np.uint8([[0]]), np.uint8([[1], [0], [3], [2]]), [[1]], [[1], [0], [1], [0]]
        >>> average_precisions(*case).round(4).tolist()
        [0.5]
        >>> [float(average_precisions(*case, top_k=2, tie_rule=rule)[0]) for rule in TIE_RULES]
        [0.5, 0.25, 0.5, 0.0]
    """
    check_choice("tie_rule", tie_rule, TIE_RULES)
    check_choice("denominator", denominator, DENOMINATORS)
    if top_k is not None and top_k < 1:
        raise ValueError(f"`top_k` must be at least 1. Received: {top_k}.")
    search = Search(query_codes, database_codes, query_labels, database_labels)
    top_k = search.num_items if top_k is None else min(top_k, search.num_items)
    ranks, harmonic = np.arange(1, top_k + 1), harmonic_numbers(top_k)

    def score(block: slice) -> np.ndarray:
        if tie_rule != "stable":
            groups = search.groups(block, top_k)
            divisors = num_relevant(block) if denominator == "relevant" else [None] * len(groups)
            return np.array(
                [
                    tied_average_precision(*group, top_k, tie_rule, harmonic, divisor)
                    for group, divisor in zip(groups, divisors, strict=True)
                ]
            )
        hits = search.relevant(block, rank(search.distances(block), top_k))  # (B, k)
        found = np.cumsum(hits, axis=1)
        sums = np.einsum("bk,bk->b", found / ranks, hits)
        return sums / np.maximum(num_relevant(block) if denominator == "relevant" else found[:, -1], 1)

    def num_relevant(block: slice) -> np.ndarray:
        return np.minimum(top_k, search.relevant(block).sum(axis=1))

    return search.each(score)


def mean_average_precision(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    *,
    top_k: int | None = None,
    tie_rule: str = TIE_RULE,
    denominator: str = "retrieved",
) -> float:
    """Compute MAP@k, the mean of `average_precisions` over the queries; t-MAP with the targets' labels."""
    precisions = average_precisions(
        query_codes,
        database_codes,
        query_labels,
        database_labels,
        top_k=top_k,
        tie_rule=tie_rule,
        denominator=denominator,
    )
    return float(precisions.mean())


def chance_map(query_labels: np.ndarray, database_labels: np.ndarray) -> float:
    """Compute the relevance prior: the share of relevant items, averaged over queries.

    It is about the MAP of a ranking that knows nothing. A model under attack that scores below it is not partly
    robust; it is worse than a random order.

    Args:
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.

    Returns:
        float in [0, 1].

    Raises:
        ValueError: there are no queries, or the database is empty.

    Example:
        >>> chance_map([[1, 0]], [[1, 1], [0, 1]])
        0.5
    """
    if not len(query_labels) or not len(database_labels):
        raise ValueError(
            f"Chance needs queries and a database. Received: {len(query_labels)} and {len(database_labels)}."
        )
    queries, database = pack_labels(query_labels, database_labels)
    shares = each_block(
        lambda block: share_labels(queries[:, block], database).mean(axis=1), queries.shape[1], database.shape[1]
    )
    return float(shares.mean())


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `value` is one of the `choices` of the argument `name`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {value!r}.")
