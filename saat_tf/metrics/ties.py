"""Average precision when items tie: its expectation over all orders of the tied items, and its bounds.

A ranking by distance fixes the order of the groups of items at one distance, not the order inside a group. With N0
items and P0 relevant ones before a group, its first m ranks containing x relevant items add to the sum over hits of
(relevant items so far) / rank

    expected      x/m sum_{t=1..m} (P0 + 1 + (t-1)(x-1)/(m-1)) / (N0 + t)     every order as likely as any other
    optimistic    sum_{j=1..x} (P0 + j) / (N0 + j)                            relevant items first
    pessimistic   sum_{j=1..x} (P0 + j) / (N0 + m - x + j)                    relevant items last

Of a whole group m and x are its sizes. The group that rank k cuts shows m = k - N0 of its n items, and how many of its
p relevant ones are among those depends on the order: x is hypergeometric. AP@k divides by P0 + x where the denominator
is "retrieved", so the score is worked out for every possible x: the expectation weighs them by their probability, the
bounds are their extremes (one more hit at a low rank can lower the average, so the most hits are not always best).

References:
    McSherry & Najork, "Computing information retrieval performance measures efficiently in the presence of tied
    scores", ECIR 2008; He et al., "Hashing as tie-aware learning to rank", CVPR 2018, for whole groups. The cut group
    under the denominator "retrieved" is worked out here.
"""

import numpy as np

Counts = np.ndarray | np.int64

TIE_RULES = ("stable", "expected", "optimistic", "pessimistic")


def harmonic_numbers(number: int) -> np.ndarray:
    """Return H_0 ... H_number, where H_n = 1 + 1/2 + ... + 1/n: float64 (number + 1,).

    Example:
        >>> harmonic_numbers(2).tolist()
        [0.0, 1.0, 1.5]
    """
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, number + 1))])


def tied_average_precision(
    sizes: np.ndarray,
    relevant: np.ndarray,
    top_k: int,
    tie_rule: str,
    harmonic: np.ndarray,
    num_relevant: int | None = None,
) -> float:
    """Compute AP@k of one query from the sizes of its groups of equal distance.

    Args:
        sizes: int64 (D,), items of each group, nearest first; none is empty, and rank `top_k` lies in the last.
        relevant: int64 (D,), relevant items of each group.
        top_k: k, at most the sum of `sizes`.
        tie_rule: "expected", "optimistic" or "pessimistic".
        harmonic: `harmonic_numbers(k)` or more of them.
        num_relevant: what to divide by; the hits among the first k by default.

    Returns:
        float in [0, 1]; 0 without a hit.

    Example:
        >>> one_of_two = np.array([2]), np.array([1]), 2
        >>> [tied_average_precision(*one_of_two, rule, harmonic_numbers(2)) for rule in TIE_RULES[1:]]
        [0.75, 1.0, 0.5]
    """
    gain = {"expected": _expected, "optimistic": _optimistic, "pessimistic": _pessimistic}[tie_rule]
    before, found = np.cumsum(sizes) - sizes, np.cumsum(relevant) - relevant
    whole = gain(before[:-1], found[:-1], sizes[:-1], relevant[:-1], harmonic).sum()
    shown = top_k - before[-1]
    hits = np.arange(max(0, shown - (sizes[-1] - relevant[-1])), min(shown, relevant[-1]) + 1)
    sums = whole + gain(before[-1], found[-1], shown, hits, harmonic)
    scores = sums / np.maximum(found[-1] + hits if num_relevant is None else num_relevant, 1)
    if tie_rule == "expected":
        return float(scores @ _probabilities(hits, sizes[-1], relevant[-1], shown))
    return float(scores.max() if tie_rule == "optimistic" else scores.min())


def tied_hits(sizes: np.ndarray, relevant: np.ndarray, cutoffs: np.ndarray, tie_rule: str) -> np.ndarray:
    """Count the relevant items among the first ranks: what is expected, the most, or the least.

    Args:
        sizes: int64 (D,), items of each group, nearest first.
        relevant: int64 (D,), relevant items of each group.
        cutoffs: int (n,), each in [1, the sum of `sizes`].
        tie_rule: "expected", "optimistic" or "pessimistic".

    Returns:
        float64 (n,).

    Example:
        >>> [tied_hits(np.array([4]), np.array([2]), np.array([2]), rule).tolist() for rule in TIE_RULES[1:]]
        [[1.0], [2.0], [0.0]]
    """
    ends, found = np.cumsum(sizes), np.cumsum(relevant)
    group = np.searchsorted(ends, cutoffs)  # the one that each cut-off ends in
    shown = cutoffs - (ends - sizes)[group]
    before, sizes, relevant = (found - relevant)[group], sizes[group], relevant[group]
    if tie_rule == "expected":
        return before + shown * relevant / sizes
    if tie_rule == "optimistic":
        return before + np.minimum(shown, relevant).astype(np.float64)
    return before + np.maximum(0, shown - (sizes - relevant)).astype(np.float64)


def _expected(before: Counts, found: Counts, shown: Counts, hits: Counts, harmonic: np.ndarray) -> np.ndarray:
    reciprocals = harmonic[before + shown] - harmonic[before]
    ramp = shown - (before + 1) * reciprocals  # sum_t (t - 1) / (N0 + t)
    return hits / shown * ((found + 1) * reciprocals + (hits - 1) / np.maximum(shown - 1, 1) * ramp)


def _optimistic(before: Counts, found: Counts, shown: Counts, hits: Counts, harmonic: np.ndarray) -> np.ndarray:
    return hits + (found - before) * (harmonic[before + hits] - harmonic[before])


def _pessimistic(before: Counts, found: Counts, shown: Counts, hits: Counts, harmonic: np.ndarray) -> np.ndarray:
    end = before + shown
    return hits + (found + hits - end) * (harmonic[end] - harmonic[end - hits])


def _probabilities(hits: np.ndarray, size: int, relevant: int, shown: int) -> np.ndarray:
    """Return how likely each number of `hits` is, in steps of one, among `shown` of `size` items in random order."""
    x = hits[:-1]
    ratios = (relevant - x) * (shown - x) / ((x + 1.0) * (size - relevant - shown + x + 1))
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()
