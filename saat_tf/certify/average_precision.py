"""From bits to MAP: the least AP of each query over the codes that an attack can reach, or over distances."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable

import numpy as np

from saat_tf.certify.ranking import check_bound, check_denominator, interval_average_precision, outward
from saat_tf.certify.reachable import Items, reachable_average_precision
from saat_tf.hamming import check_packed
from saat_tf.metrics import relevance
from saat_tf.metrics.ties import harmonic_numbers


@dataclasses.dataclass(frozen=True)
class CertifiedScores:
    """Bounds of AP@k, one a query.

    Args:
        values: float64 (Q,) in [0, 1].
        exact: bool (Q,), whether a reachable code has this value (ties at their worst), or the search was stopped with
            a bound that is sound but not reached.
    """

    values: np.ndarray
    exact: np.ndarray

    @property
    def map(self) -> float:
        """The mean over the queries: the bound of MAP@k."""
        return float(self.values.mean())


def certified_average_precisions(
    query_codes: np.ndarray,
    flip_costs: np.ndarray,
    budgets: np.ndarray | float,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    *,
    top_k: int | None = None,
    denominator: str = "relevant",
    bound: str = "lower",
    seconds: float = 0.1,
) -> CertifiedScores:
    """Bound AP@k of each query over the codes whose flipped bits cost at most its budget.

    The database is not perturbed. Equal distances count at their worst for the bound, so that no sort of them is worse.
    The values are rounded outward by 1e-9.

    Args:
        query_codes: uint8 (Q, K / 8), packed, of the queries as they are.
        flip_costs: (Q, K), at least 0: of bool, whether a bit may flip; else what its flip costs, infinite where it
            cannot.
        budgets: (Q,) or one for all: what the flipped bits may cost together; not read where `flip_costs` is bool.
        database_codes: uint8 (N, K / 8), packed.
        query_labels: (Q, C) of 0/1: of the queries, or of their targets for a bound of t-MAP.
        database_labels: (N, C) of 0/1.
        top_k: k; the whole database by default.
        denominator: "relevant" alone admits a certificate.
        bound: "lower", or "upper" for t-MAP.
        seconds: of processor time after which a query of over 20 uncertain bits gets the bound found so far.

    Returns:
        `CertifiedScores`.

    Raises:
        ValueError: a denominator without a certificate, an unknown bound, or arrays that do not fit each other.

    Example:
        >>> scores = certified_average_precisions(
        ...     np.uint8([[0]]), np.arange(8)[None] < 1, 0.0, np.uint8([[0], [0b10000000]]), [[1]], [[1], [0]]
        ... )
        >>> scores.map.__round__(3), scores.exact.tolist()
        (0.5, [True])
    """
    check_denominator(denominator)
    check_bound(bound)
    flip_costs = np.asarray(flip_costs)
    check_bits(query_codes, flip_costs)
    check_packed(query_codes=query_codes, database_codes=database_codes)
    relevant = relevance(query_labels, database_labels)
    if relevant.shape != (len(query_codes), len(database_codes)):
        raise ValueError(
            f"Codes and labels must come in pairs. Received: {len(query_codes)} and {len(database_codes)} codes, "
            f"{relevant.shape[0]} and {relevant.shape[1]} label rows."
        )
    if flip_costs.dtype == bool:
        flip_costs, budgets = np.where(flip_costs, 0.0, np.inf), 0.0
    if not (flip_costs >= 0).all():
        raise ValueError("`flip_costs` must be at least 0. Received a negative one, or NaN.")
    budgets = np.broadcast_to(np.asarray(budgets, np.float64), len(query_codes))
    distinct, inverse = np.unique(database_codes, axis=0, return_inverse=True)
    query_bits, database_bits = (np.unpackbits(codes, axis=1) for codes in (query_codes, distinct))
    inverse = inverse.reshape(-1)
    items = np.bincount(inverse, minlength=len(distinct))
    top_k = len(database_codes) if top_k is None else min(top_k, len(database_codes))
    harmonic = harmonic_numbers(len(database_codes))

    def score(i: int) -> tuple[float, bool]:
        found = np.bincount(inverse[relevant[i]], minlength=len(distinct))
        database = Items(database_bits != query_bits[i], items, found)
        return reachable_average_precision(
            database, flip_costs[i], float(budgets[i]), top_k=top_k, harmonic=harmonic, bound=bound, seconds=seconds
        )

    values, exact = zip(*(score(i) for i in range(len(query_codes))), strict=True)
    return CertifiedScores(np.array(values), np.array(exact))


def interval_average_precisions(
    intervals: Callable[[int], tuple[np.ndarray, np.ndarray]],
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    *,
    top_k: int | None = None,
    denominator: str = "relevant",
    bound: str = "lower",
) -> CertifiedScores:
    """Bound AP@k of each query by intervals of the distances to its items, whatever certifies them.

    Args:
        intervals: index of a query -> nearest and farthest distance of each item, (N,) each.
        query_labels: (Q, C) of 0/1: of the queries, or of their targets for a bound of t-MAP.
        database_labels: (N, C) of 0/1.
        top_k: k; the whole database by default.
        denominator: "relevant" alone admits a certificate.
        bound: "lower", or "upper" for t-MAP.

    Returns:
        `CertifiedScores`, none of them exact.

    Raises:
        ValueError: as `certified_average_precisions`.
    """
    check_denominator(denominator)
    relevant = relevance(query_labels, database_labels)

    def score(i: int) -> float:
        return interval_average_precision(*intervals(i), relevant[i], top_k=top_k, bound=bound)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        values = np.array(list(pool.map(score, range(len(relevant)))))
    return CertifiedScores(outward(values, bound), np.zeros(len(values), bool))


def check_bits(query_codes: np.ndarray, per_bit: np.ndarray) -> None:
    """Raise `ValueError` unless `per_bit` (Q, K) has a value for each bit of packed `query_codes` (Q, K / 8)."""
    expected = (len(query_codes), 8 * np.shape(query_codes)[-1])
    if np.shape(per_bit) != expected:
        raise ValueError(
            f"A certificate needs one value for each bit of each query, {expected}. Received: {np.shape(per_bit)}. "
            "Certify and encode with the same model."
        )
