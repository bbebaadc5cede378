"""STAND-IN for `saat_tf.metrics`: same names, arguments and results; delete once the package has them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saat_tf.hamming import hamming_distances, rank
from saat_tf.metrics import relevance


class PrecisionRecall(NamedTuple):
    """Precision and recall, float64 (Q, P) each."""

    precision: np.ndarray
    recall: np.ndarray


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of the mean of `values` (Q,)."""
    values = np.asarray(values, np.float64)
    draws = np.random.default_rng(seed).integers(len(values), size=(num_resamples, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def precision_recall_by_rank(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    cutoffs: Sequence[int],
) -> PrecisionRecall:
    """Compute precision@n and recall@n for each cut-off n."""
    cutoffs = np.asarray(cutoffs)
    relevant = relevance(query_labels, database_labels)
    ranks = rank(hamming_distances(query_codes, database_codes), cutoffs.max())
    found = np.cumsum(np.take_along_axis(relevant, ranks, axis=1), axis=1)[:, cutoffs - 1]
    return PrecisionRecall(found / cutoffs, found / np.maximum(relevant.sum(axis=1), 1)[:, None])
