"""How good a ranking by Hamming distance is."""

import numpy as np

from saat_tf.hamming import hamming_distances, rank

# Queries are ranked in groups of about this many distances, which bounds the memory whatever the database.
GROUP_DISTANCES = 1 << 23

TIE_RULE = "stable"


def relevance(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    """Tell which items are relevant: those that share at least one label with the query.

    Args:
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.

    Returns:
        bool (Q, N).

    Raises:
        ValueError: the two differ in width.

    Example:
        >>> relevance([[1, 0]], [[1, 1], [0, 1]]).tolist()
        [[True, False]]
    """
    query_labels, database_labels = np.asarray(query_labels, np.float32), np.asarray(database_labels, np.float32)
    if query_labels.shape[1] != database_labels.shape[1]:
        raise ValueError(
            f"Label rows of queries and database must have one width. Received: {query_labels.shape[1]} and "
            f"{database_labels.shape[1]} columns."
        )
    return query_labels @ database_labels.T > 0


def average_precisions(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    *,
    top_k: int | None = None,
) -> np.ndarray:
    """Compute AP@k of each query.

    With r_t = 1 where the item at rank t is relevant,

        AP@k = sum_{t <= k} r_t (r_1 + ... + r_t) / t  /  (r_1 + ... + r_k)

    which divides by the relevant items among the first k, as this field does, and not by all relevant items. A query
    without a relevant item among the first k, one without labels included, counts 0. Items at one distance keep the
    order of the database (`TIE_RULE` is "stable").

    Args:
        query_codes: uint8 (Q, K / 8), packed.
        database_codes: uint8 (N, K / 8), packed.
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.
        top_k: k; the whole database by default.

    Returns:
        float64 (Q,), each in [0, 1].

    Raises:
        ValueError: no query, an empty database, codes and labels of different numbers, or `top_k` below 1.

    Example:
        >>> average_precisions(np.uint8([[0]]), np.uint8([[1], [0], [3]]), [[1]], [[1], [0], [1]]).round(4).tolist()
        [0.5833]
    """
    query_labels, database_labels = np.asarray(query_labels), np.asarray(database_labels)
    if not len(query_codes) or not len(database_codes):
        raise ValueError(f"MAP needs queries and a database. Received: {len(query_codes)} and {len(database_codes)}.")
    if len(query_codes) != len(query_labels) or len(database_codes) != len(database_labels):
        raise ValueError(
            f"Codes and labels must come in pairs. Received: {len(query_codes)} and {len(query_labels)} for the "
            f"queries, {len(database_codes)} and {len(database_labels)} for the database."
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"`top_k` must be at least 1. Received: {top_k}.")
    group = max(1, GROUP_DISTANCES // len(database_codes))
    parts = [
        _average_precisions_of_ranking(
            hamming_distances(query_codes[i : i + group], database_codes),
            relevance(query_labels[i : i + group], database_labels),
            top_k,
        )
        for i in range(0, len(query_codes), group)
    ]
    return np.concatenate(parts)


def _average_precisions_of_ranking(distances: np.ndarray, relevant: np.ndarray, top_k: int | None) -> np.ndarray:
    hits = np.take_along_axis(relevant, rank(distances, top_k), axis=1)  # (Q, N) -> (Q, k)
    found = np.cumsum(hits, axis=1)
    precision = found / np.arange(1, hits.shape[1] + 1)
    return (precision * hits).sum(axis=1) / np.maximum(found[:, -1], 1)


def mean_average_precision(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    *,
    top_k: int | None = None,
) -> float:
    """Compute MAP@k, the mean of `average_precisions` over the queries."""
    return float(average_precisions(query_codes, database_codes, query_labels, database_labels, top_k=top_k).mean())


def chance_map(query_labels: np.ndarray, database_labels: np.ndarray) -> float:
    """Compute the relevance prior: the share of relevant items, averaged over queries.

    It is about the MAP of a ranking that knows nothing. A model under attack that scores below it is not partly
    robust; it is worse than blind.

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
    query_labels = np.asarray(query_labels)
    if not len(query_labels) or not len(database_labels):
        raise ValueError(
            f"Chance needs queries and a database. Received: {len(query_labels)} and {len(database_labels)}."
        )
    group = max(1, GROUP_DISTANCES // len(database_labels))
    shares = [
        relevance(query_labels[i : i + group], database_labels).mean(axis=1) for i in range(0, len(query_labels), group)
    ]
    return float(np.concatenate(shares).mean())
