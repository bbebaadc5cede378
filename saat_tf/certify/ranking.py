"""AP@k of rankings that are known only up to intervals of distances, with the denominator "relevant".

With D = min(k, relevant items in the database), AP@k = sum over hits at ranks t <= k of (hits so far) / t, over D.
While D is fixed, moving a relevant item behind an irrelevant one never raises AP: so the least AP of all rankings in
which item i lies at a distance in [nearest_i, farthest_i] is that of the relevant items at their farthest and the
others at their nearest, irrelevant ones first among equal distances. The largest is that with the roles exchanged.

The field's denominator, the hits among the first k, is not monotone (hits + - + score 5/6, + - - score 1): no bound of
distances bounds it.
"""

import numpy as np

BOUNDS = ("lower", "upper")
# Sums of up to 10^5 terms in [0, 1] in float64 are exact to this, whichever formula adds them.
ROUNDING = 1e-9


def check_denominator(denominator: str) -> None:
    """Raise `ValueError` unless AP with this denominator can be bounded by distances."""
    if denominator != "relevant":
        raise ValueError(
            f'A certificate needs the denominator "relevant". Received: {denominator!r}. With the hits among the first '
            "k as denominator, AP rises when a late hit is lost (+ - + scores 5/6, + - - scores 1), so no bound of "
            "distances bounds it."
        )


def check_bound(bound: str) -> None:
    """Raise `ValueError` unless `bound` is one of `BOUNDS`."""
    if bound not in BOUNDS:
        raise ValueError(f"`bound` must be one of {BOUNDS}. Received: {bound!r}.")


def interval_average_precision(
    nearest: np.ndarray,
    farthest: np.ndarray,
    relevant: np.ndarray,
    *,
    top_k: int | None = None,
    bound: str = "lower",
) -> float:
    """Bound AP@k of one query over all rankings by distances within intervals.

    Args:
        nearest: (N,), the least distance of each item, of any real unit.
        farthest: (N,), the largest.
        relevant: bool (N,).
        top_k: k; the whole database by default.
        bound: "lower", or "upper" for what a targeted attack can reach at most.

    Returns:
        float in [0, 1], 0 where nothing is relevant.

    Raises:
        ValueError: an interval is empty, or an unknown `bound`.

    Example:
        >>> interval_average_precision([0, 1], [1, 1], np.array([True, False]))  # both may be at distance 1
        0.5
    """
    check_bound(bound)
    nearest, farthest, relevant = np.asarray(nearest), np.asarray(farthest), np.asarray(relevant, bool)
    if not (nearest <= farthest).all():
        raise ValueError("Every `nearest` must be at most its `farthest`. Received an item with an empty interval.")
    top_k = len(relevant) if top_k is None else min(top_k, len(relevant))
    lower = bound == "lower"
    distances = np.where(relevant == lower, farthest, nearest)
    order = np.lexsort((relevant if lower else ~relevant, distances))[:top_k]
    hits = relevant[order]
    total = (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].sum()
    return float(total / max(1, min(top_k, int(relevant.sum()))))


def tied_bounds(
    items: np.ndarray, relevant: np.ndarray, top_k: int, num_relevant: int, harmonic: np.ndarray, bound: str
) -> np.ndarray:
    """Compute AP@k of many rankings from counts at each distance, ties at their worst ("lower") or best ("upper").

    Args:
        items: int (..., D), items at each distance, nearest first; a distance may be empty.
        relevant: int (..., D), the relevant ones among them.
        top_k: k, at most the items of a ranking.
        num_relevant: relevant items of the database.
        harmonic: `saat_tf.metrics.ties.harmonic_numbers(n)`, n at least the items of a ranking.
        bound: "lower" or "upper".

    Returns:
        float64 (...), each in [0, 1].

    Example:
        >>> from saat_tf.metrics.ties import harmonic_numbers
        >>> [float(tied_bounds(np.array([2]), np.array([1]), 2, 1, harmonic_numbers(2), b)) for b in BOUNDS]
        [0.5, 1.0]
    """
    before = np.minimum(np.cumsum(items, axis=-1) - items, top_k)
    found = np.cumsum(relevant, axis=-1) - relevant
    shown = np.minimum(items, top_k - before)
    end = before + shown
    if bound == "lower":  # irrelevant items first, and cut off last
        hits = np.maximum(0, shown - (items - relevant))
        gains = hits + (found + hits - end) * (harmonic[end] - harmonic[end - hits])
    else:
        hits = np.minimum(shown, relevant)
        gains = hits + (found - before) * (harmonic[before + hits] - harmonic[before])
    return gains.sum(axis=-1) / max(1, min(top_k, num_relevant))


def outward(values: np.ndarray, bound: str) -> np.ndarray:
    """Move bounds of AP outward by `ROUNDING`, within [0, 1].

    Example:
        >>> float(outward(np.array(0.0), "lower")), float(outward(np.array(1.0), "upper"))
        (0.0, 1.0)
    """
    return np.clip(values - ROUNDING if bound == "lower" else values + ROUNDING, 0.0, 1.0)
