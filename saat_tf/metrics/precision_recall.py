"""Precision and recall: among the first ranks, and within a Hamming radius."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saat_tf.hamming import rank
from saat_tf.metrics.retrieval import TIE_RULE, check_choice
from saat_tf.metrics.search import Search
from saat_tf.metrics.ties import TIE_RULES, tied_hits


class PrecisionRecall(NamedTuple):
    """Points of a precision-recall curve, one row a query; `precision.mean(axis=0)` against `recall.mean(axis=0)`.

    Args:
        precision: float64 (Q, P) in [0, 1].
        recall: float64 (Q, P) in [0, 1].
    """

    precision: np.ndarray
    recall: np.ndarray


def precision_recall_by_rank(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    cutoffs: Sequence[int] | np.ndarray,
    *,
    tie_rule: str = TIE_RULE,
) -> PrecisionRecall:
    """Compute precision@n and recall@n: the hits among the first n items, over n and over all relevant items.

    Args:
        query_codes: uint8 (Q, K / 8), packed.
        database_codes: uint8 (N, K / 8), packed.
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.
        cutoffs: the P numbers n, each in [1, N].
        tie_rule: "stable", "expected", "optimistic" or "pessimistic", as in `average_precisions`.

    Returns:
        `PrecisionRecall`, a column a cut-off. The recall of a query to which nothing is relevant is 0.

    Raises:
        ValueError: no cut-off or one outside [1, N], an unknown `tie_rule`, or what `average_precisions` refuses.

    Example:
        >>> codes = np.uint8([[0], [1], [3], [7]])
        >>> curve = precision_recall_by_rank(codes[:1], codes, [[1]], [[1], [0], [1], [0]], cutoffs=[1, 2, 4])
        >>> curve.precision.tolist(), curve.recall.tolist()
        ([[1.0, 0.5, 0.5]], [[0.5, 0.5, 1.0]])
    """
    check_choice("tie_rule", tie_rule, TIE_RULES)
    search = Search(query_codes, database_codes, query_labels, database_labels)
    ranks = np.asarray(cutoffs)
    if ranks.ndim != 1 or not ranks.size or ranks.min() < 1 or ranks.max() > search.num_items:
        raise ValueError(
            f"`cutoffs` must be numbers of items from 1 to the {search.num_items} of the database. Received: "
            f"{ranks.tolist()}."
        )

    farthest = int(ranks.max())

    def hits(block: slice) -> np.ndarray:
        if tie_rule != "stable":
            return np.array([tied_hits(*group, ranks, tie_rule) for group in search.groups(block, farthest)])
        relevant = search.relevant(block, rank(search.distances(block), farthest))
        return np.cumsum(relevant, axis=1)[:, ranks - 1]

    found = search.each(hits)  # (Q, P)
    num_relevant = search.each(lambda block: search.relevant(block).sum(axis=1))
    return PrecisionRecall(found / ranks, found / np.maximum(num_relevant, 1)[:, None])


def precision_recall_by_radius(
    query_codes: np.ndarray, database_codes: np.ndarray, query_labels: np.ndarray, database_labels: np.ndarray
) -> PrecisionRecall:
    """Compute precision and recall within each Hamming radius 0 ... K: of hash lookup, and free of ties.

    Args:
        query_codes: uint8 (Q, K / 8), packed.
        database_codes: uint8 (N, K / 8), packed.
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.

    Returns:
        `PrecisionRecall` with K + 1 columns. Where nothing lies within the radius the precision is 0, as a lookup that
        finds nothing has failed; the recall of a query to which nothing is relevant is 0.

    Raises:
        ValueError: what `average_precisions` refuses.

    Example:
        >>> curve = precision_recall_by_radius(np.uint8([[0]]), np.uint8([[1], [3]]), [[1]], [[1], [0]])
        >>> curve.precision[0, :4].tolist(), curve.recall[0, :4].tolist()
        ([0.0, 1.0, 0.5, 0.5], [0.0, 1.0, 1.0, 1.0])
    """
    search = Search(query_codes, database_codes, query_labels, database_labels)
    num_radii = 8 * np.shape(query_codes)[1] + 1

    def within(block: slice) -> np.ndarray:
        pairs = zip(search.distances(block), search.relevant(block), strict=True)
        counts = [[np.bincount(part, minlength=num_radii) for part in (row, row[hits])] for row, hits in pairs]
        return np.cumsum(counts, axis=2)

    items, hits = np.moveaxis(search.each(within), 1, 0)  # (Q, 2, K + 1) -> two of (Q, K + 1)
    return PrecisionRecall(hits / np.maximum(items, 1), hits / np.maximum(hits[:, -1:], 1))
