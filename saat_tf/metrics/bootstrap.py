"""Bootstrap interval of a mean over queries."""

import numpy as np

# Resamples are drawn in blocks of about this many numbers, which bounds the memory.
BLOCK_DRAWS = 1 << 21


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute a percentile bootstrap interval of the mean of `values` over queries.

    Queries are drawn with replacement, and the interval is the middle `level` of the means. It speaks of other
    queries like these, not of another training run. For a difference between two attacks or models on the same queries
    pass the differences: they are paired.

    Args:
        values: (Q,), one a query, such as `average_precisions`.
        level: share of the resampled means inside, in (0, 1).
        num_resamples: how many resamples, at least 1.
        seed: seed of the draws.

    Returns:
        low and high.

    Raises:
        ValueError: no values, values that are not finite, or a number out of its range.

    Example:
        >>> low, high = bootstrap_interval(np.array([0.0, 1.0] * 50))
        >>> round(low, 2), round(high, 2)
        (0.4, 0.6)

    References:
        Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"`values` must be a vector of finite numbers, at least one. Received shape {values.shape}.")
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(
            f"`level` must lie in (0, 1) and `num_resamples` be at least 1. Received: {level} and {num_resamples}."
        )
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK_DRAWS // len(values))
    means = [
        values[rng.integers(len(values), size=(min(rows, num_resamples - done), len(values)))].mean(axis=1)
        for done in range(0, num_resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
