"""The least AP over the codes that an attack can reach: an exact search over flipped bits, sound wherever it stops.

A code is reachable if the costs of its flipped bits add up to at most the budget. Certificates of single bits are the
case of cost 0 (may flip) or infinity (cannot); the joint margin certificate has costs z_k^2 and the budget L^2 r^2.

The search branches on one bit after the other, most influential first, always from the node with the lowest bound; the
bound of a node is that of `ranking.tied_bounds` with each item anywhere between the nearest and the farthest that the
node allows. Nodes with few free bits are solved for all their codes at once by the recursion over subsets,

    F[b, d] = items at distance d of b;   for each bit k: F[b, d] += F_before[b xor e_k, d - 1].

Since every code lies below some open node, the least bound of the open nodes is sound at any time.
"""

import dataclasses
import heapq
import itertools
import time
from collections.abc import Callable

import numpy as np

from saat_tf.certify.ranking import outward, tied_bounds

# Nodes with as many free bits are solved as a table of 2^10 codes: 1 ms.
TABLE_BITS = 10
# Up to as many uncertain bits the search always ends; beyond, it may stop by time.
EXACT_BITS = 20
# Sums of up to 128 costs in float64 are exact to this.
ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Items:
    """The database as one query sees it: distinct codes with their counts.

    Args:
        differing: bool (M, K), bits in which each distinct code differs from the query's.
        items: int64 (M,), items with each code.
        relevant: int64 (M,), the relevant ones among them.
    """

    differing: np.ndarray
    items: np.ndarray
    relevant: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Node:
    """A set of codes: the bits before `depth` in the order of branching are decided."""

    depth: int
    distances: np.ndarray  # int64 (M,), over the certain and the decided bits
    budget: float
    solved: bool = False


def reachable_average_precision(
    database: Items,
    costs: np.ndarray,
    budget: float,
    *,
    top_k: int,
    harmonic: np.ndarray,
    bound: str = "lower",
    seconds: float = 0.1,
    clock: Callable[[], float] = time.process_time,
) -> tuple[float, bool]:
    """Bound AP@k (denominator "relevant", worst ties) over all reachable codes of one query.

    Args:
        database: distinct codes of the database and their counts.
        costs: float (K,), at least 0: of flipping each bit; infinite where it cannot flip.
        budget: what the flipped bits may cost together.
        top_k: k.
        harmonic: `harmonic_numbers(n)`, n at least the items.
        bound: "lower" for the least AP, "upper" for the largest.
        seconds: of processor time after which a search over more than `EXACT_BITS` bits stops.
        clock: gives seconds.

    Returns:
        The bound, and whether it is the value of a reachable code up to rounding.
    """
    budget = budget * (1 + ROUNDING)
    free = np.flatnonzero(costs <= budget)
    search = _Search(database, costs, free, top_k, harmonic, bound)
    certain = np.setdiff1d(np.arange(database.differing.shape[1]), free)
    root = _Node(0, database.differing[:, certain].sum(axis=1), budget)
    numbers, deadline = itertools.count(), clock() + seconds
    heap = [(search.bound(root), next(numbers), root)]
    while not heap[0][2].solved and (len(free) <= EXACT_BITS or clock() < deadline):
        _, _, node = heapq.heappop(heap)
        for part in search.split(node):
            value = search.table(part) if part.solved else search.bound(part)
            heapq.heappush(heap, (value, next(numbers), part))
    value, _, node = heap[0]
    return float(outward(np.array(value if bound == "lower" else -value), bound)), node.solved


class _Search:
    """The bounds of nodes; all values are to be minimized, so those of "upper" are negative."""

    def __init__(
        self, database: Items, costs: np.ndarray, free: np.ndarray, top_k: int, harmonic: np.ndarray, bound: str
    ) -> None:
        self.items, self.relevant, self.top_k, self.harmonic = database.items, database.relevant, top_k, harmonic
        self.num_relevant, self.kind = int(database.relevant.sum()), bound
        self.num_distances = database.differing.shape[1] + 1
        # Most influential first: bits in which relevant and other items differ most from each other.
        others = self.items - self.relevant
        apart = (self.relevant / max(1, self.num_relevant) - others / max(1, others.sum())) @ database.differing[
            :, free
        ]
        order = free[np.argsort(-np.abs(apart), kind="stable")]
        self.differing, self.costs = database.differing[:, order], costs[order]

    def split(self, node: _Node) -> list[_Node]:
        """Return the two parts of a node, or the node to be solved where it has few free bits."""
        if len(self.costs) - node.depth <= TABLE_BITS:
            return [dataclasses.replace(node, solved=True)]
        bit, cost = self.differing[:, node.depth], self.costs[node.depth]
        kept = _Node(node.depth + 1, node.distances + bit, node.budget)
        if cost > node.budget:
            return [kept]
        return [kept, _Node(node.depth + 1, node.distances + ~bit, node.budget - cost)]

    def bound(self, node: _Node) -> float:
        """Return the value of the worst ranking that the node's distances allow."""
        costs = self.costs[node.depth :]
        order = np.argsort(costs, kind="stable")
        differing, costs = self.differing[:, node.depth :][:, order], costs[order]
        base = node.distances + differing.sum(axis=1)
        nearest = base - _affordable(differing, costs, node.budget)
        farthest = base + _affordable(~differing, costs, node.budget)
        hits, others = (farthest, nearest) if self.kind == "lower" else (nearest, farthest)
        relevant = np.bincount(hits, self.relevant, self.num_distances).astype(np.int64)
        irrelevant = np.bincount(others, self.items - self.relevant, self.num_distances).astype(np.int64)
        return float(self._values(relevant + irrelevant, relevant))

    def table(self, node: _Node) -> float:
        """Return the worst value of all codes of a node."""
        places = 1 << np.arange(len(self.costs) - node.depth)
        patterns = self.differing[:, node.depth :] @ places
        items, relevant = (self._counts(patterns, node.distances, w, len(places)) for w in (self.items, self.relevant))
        flipped = (np.arange(1 << len(places))[:, None] & places) != 0
        affordable = flipped @ self.costs[node.depth :] <= node.budget
        return float(self._values(items[affordable], relevant[affordable]).min())

    def _counts(self, patterns: np.ndarray, distances: np.ndarray, weights: np.ndarray, bits: int) -> np.ndarray:
        """Count the items at each distance of each code: int64 (2^bits, D)."""
        size = self.num_distances
        counts = np.bincount(patterns * size + distances, weights, size << bits).astype(np.int64)
        for bit in range(bits):
            pairs = counts.reshape(-1, 2, (1 << bit) * size)
            moved = np.zeros((len(pairs), 2, 1 << bit, size), np.int64)
            moved[..., 1:] = pairs[:, ::-1].reshape(moved.shape)[..., :-1]
            counts = pairs + moved.reshape(pairs.shape)
        return counts.reshape(-1, size)

    def _values(self, items: np.ndarray, relevant: np.ndarray) -> np.ndarray:
        values = tied_bounds(items, relevant, self.top_k, self.num_relevant, self.harmonic, self.kind)
        return values if self.kind == "lower" else -values


def _affordable(may_flip: np.ndarray, costs: np.ndarray, budget: float) -> np.ndarray:
    """Count the most bits that can flip together: bool (M, F), costs (F,) in ascending order -> int64 (M,)."""
    return (may_flip & (np.cumsum(may_flip * costs, axis=1) <= budget)).sum(axis=1)
