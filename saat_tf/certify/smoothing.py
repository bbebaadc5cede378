"""Randomized smoothing of codes: which bits of the majority code cannot flip, and how far expected distances can move.

With n ~ N(0, sigma^2 I), p_k(x) = P[z_k(x + n) >= 0]. The smoothed encoder's bit is the majority, p_k >= 1/2. For
|d|_2 <= r, p_k(x + d) >= Phi(Phi^-1(p_k(x)) - r / sigma) (Neyman-Pearson; Cohen et al. 2019), so a majority bit of
probability p cannot flip within r where p > Phi(r / sigma). That p is at least so much is tested on counted draws.

All statistics are exact binomial ones in float64.

References:
    Cohen et al., "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019; Fischer et al., "Scalable
    Certified Segmentation via Randomized Smoothing", ICML 2021, for many outputs at once by Holm's rule; Salman et al.,
    "Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers", NeurIPS 2019, for expectations.
"""

import dataclasses
import math

import numpy as np
from scipy import stats

# Tails of distributions in SciPy's float64 are exact to this share of themselves.
ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Votes:
    """Counted draws of some queries.

    Args:
        ones: int (Q, K), draws among n whose bit is +1.
        draws: n.
        selection_ones: int (Q, K), the same among n0 draws of their own, which choose the majority bit.
        selection_draws: n0.
        sigma: standard deviation of the noise in pixel units of [0, 1].

    Raises:
        ValueError: a number of draws below 1, counts beyond it, or sigma not positive.
    """

    ones: np.ndarray
    draws: int
    selection_ones: np.ndarray
    selection_draws: int
    sigma: float

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        for ones, draws in ((self.ones, self.draws), (self.selection_ones, self.selection_draws)):
            if draws < 1 or np.min(ones, initial=0) < 0 or np.max(ones, initial=0) > draws:
                raise ValueError(
                    f"Counts must lie in [0, draws], with at least one draw. Received: counts in [{np.min(ones)}, "
                    f"{np.max(ones)}] of {draws} draws."
                )

    @property
    def majority(self) -> np.ndarray:
        """The bits that the selection draws choose: bool (Q, K); a tie is +1, as sign(0) is."""
        return 2 * self.selection_ones >= self.selection_draws

    @property
    def agreeing(self) -> np.ndarray:
        """The other draws that agree with `majority`: int (Q, K)."""
        return np.where(self.majority, self.ones, self.draws - self.ones)


def check_sigma(sigma: float) -> None:
    """Raise `ValueError` unless `sigma` is a standard deviation."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"`sigma` must be above 0 and finite, in pixel units of [0, 1]. Received: {sigma}.")


def check_confidence(alpha: float, radius: float) -> None:
    """Raise `ValueError` unless `alpha` is a probability of error and `radius` a positive radius."""
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha`, the probability of a wrong certificate, must be in (0, 1). Received: {alpha}.")
    if not 0 < radius < math.inf:
        raise ValueError(f"`radius` must be above 0 and finite, in L2 and pixel units of [0, 1]. Received: {radius}.")


def least_draws(radius: float, sigma: float, alpha: float, bits: int) -> int:
    """Return with how many draws, if all agree, a bit among `bits` can be certified at all.

    All n agree with probability at most Phi(r / sigma)^n, which must be at most alpha / K.

    Raises:
        ValueError: a number is out of its range, or the radius is too many sigma for any number of draws.

    Example:
        >>> least_draws(radius=0.25, sigma=0.25, alpha=1e-3, bits=32)
        61
    """
    check_sigma(sigma)
    check_confidence(alpha, radius)
    tail = stats.norm.logcdf(radius / sigma)
    if tail == 0:
        raise ValueError(
            f"A radius of {radius:.4g} is {radius / sigma:.3g} sigma: no number of draws certifies it. Raise sigma."
        )
    return math.ceil(math.log(alpha / bits) / tail)


def certified_bits(votes: Votes, radius: float, alpha: float) -> np.ndarray:
    """Tell which majority bits cannot flip within an L2 radius, all of a query right with probability 1 - alpha.

    tau = Phi(r / sigma); the p-value of a bit is P[Bin(n, tau) >= votes for the majority]. In ascending order bits are
    certified while pv_(j) <= alpha / (K - j + 1) (Holm 1979), which tests all bits together. The other bits abstain.

    Args:
        votes: counted draws.
        radius: r in pixel units of [0, 1].
        alpha: in (0, 1), for each query.

    Returns:
        bool (Q, K).

    Raises:
        ValueError: a number is out of its range, or there are too few draws to certify any bit.

    Example:
        >>> votes = Votes(np.array([[1000, 500]]), 1000, np.array([[100, 60]]), 100, sigma=0.25)
        >>> certified_bits(votes, radius=0.25, alpha=1e-3).tolist()
        [[True, False]]
    """
    bits = votes.ones.shape[-1]
    needed = least_draws(radius, votes.sigma, alpha, bits)
    if votes.draws < needed:
        raise ValueError(
            f"{votes.draws} draws certify nothing at radius {radius:.4g} with sigma {votes.sigma:g}, alpha {alpha:.3g} "
            f"and {bits} bits, even if all agree. Draw at least {needed}, or raise sigma."
        )
    tau = stats.norm.cdf(radius / votes.sigma)
    # sf is P[> c]. Rounded up, so that a p-value on the edge does not certify.
    p_values = stats.binom.sf(votes.agreeing - 1, votes.draws, tau) * (1 + ROUNDING)
    order = np.argsort(p_values, axis=-1, kind="stable")
    limits = alpha / (bits - np.arange(bits))
    passed = np.logical_and.accumulate(np.take_along_axis(p_values, order, axis=-1) <= limits, axis=-1)
    certified = np.empty_like(passed)
    np.put_along_axis(certified, order, passed, axis=-1)
    return certified


def certified_radii(votes: Votes, alpha: float) -> np.ndarray:
    """Return the L2 radius within which each majority bit cannot flip, all of a query right with probability 1 - alpha.

    R_k = sigma Phi^-1(low_k), low_k the Clopper-Pearson bound at alpha / K (Bonferroni); 0 where low_k <= 1/2: the bit
    abstains. At one radius that is fixed in advance `certified_bits` certifies more.

    Args:
        votes: counted draws.
        alpha: in (0, 1), for each query.

    Returns:
        float64 (Q, K), at least 0.

    Example:
        >>> votes = Votes(np.full((1, 32), 10_000), 10_000, np.full((1, 32), 100), 100, sigma=1.0)
        >>> certified_radii(votes, alpha=1e-3)[0, 0].round(2)
        np.float64(3.08)
    """
    check_confidence(alpha, radius=1.0)
    agreeing, bits = votes.agreeing, votes.ones.shape[-1]
    low = stats.beta.ppf(alpha / bits, np.maximum(agreeing, 1), votes.draws - agreeing + 1) * (1 - ROUNDING)
    return np.where((agreeing > 0) & (low > 0.5), votes.sigma * stats.norm.ppf(np.maximum(low, 0.5)), 0.0)


def smoothed_distances(mean_codes: np.ndarray, distinct_codes: np.ndarray) -> np.ndarray:
    """Return the mean distance, as a share of the bits, of the drawn codes to each database code.

    q_i = E[Hamming] / K = (1 - b_i . h / K) / 2, h the mean of the drawn codes.

    Args:
        mean_codes: float (Q, K) in [-1, 1].
        distinct_codes: (M, K) of -1 and +1.

    Returns:
        float64 (Q, M) in [0, 1].

    Example:
        >>> smoothed_distances(np.array([[1.0, 0.0]]), np.array([[1, 1], [-1, 1]])).tolist()
        [[0.25, 0.75]]
    """
    products = np.asarray(mean_codes, np.float64) @ np.asarray(distinct_codes, np.float64).T
    return (1 - products / np.shape(mean_codes)[-1]) / 2


def smoothed_distance_intervals(
    distances: np.ndarray, draws: int, radius: float, sigma: float, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bound the expected distances of the noisy code of a moved query, all of a query with probability 1 - alpha.

    q lies within sqrt(ln(2 M / alpha) / (2 n)) of its mean over n draws (Hoeffding, for M distances), and for
    |d|_2 <= r in [Phi(Phi^-1(q_low) - r / sigma), Phi(Phi^-1(q_up) + r / sigma)].

    Args:
        distances: (Q, M), from `smoothed_distances` over the draws.
        draws: n.
        radius: r in pixel units of [0, 1].
        sigma: standard deviation of the noise.
        alpha: in (0, 1), for each query.

    Returns:
        Two float64 (Q, M) in [0, 1].

    Raises:
        ValueError: a number is out of its range, or the draws are so few that every interval is [0, 1].
    """
    check_sigma(sigma)
    check_confidence(alpha, radius)
    needed = math.ceil(2 * math.log(2 * distances.shape[-1] / alpha))  # a half-width of 1/2 at most
    if draws < needed:
        raise ValueError(
            f"{draws} draws bound none of {distances.shape[-1]} distances at alpha {alpha:.3g}. Draw at least {needed}."
        )
    width = math.sqrt(math.log(2 * distances.shape[-1] / alpha) / (2 * draws))
    low, high = np.clip(distances - width, 0, 1), np.clip(distances + width, 0, 1)
    shift = radius / sigma
    nearest = stats.norm.cdf(stats.norm.ppf(low) - shift) * (1 - ROUNDING)
    return nearest, np.minimum(1.0, stats.norm.cdf(stats.norm.ppf(high) + shift) * (1 + ROUNDING))
