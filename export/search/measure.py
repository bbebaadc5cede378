"""How much an approximate index misses, measured on its own codes."""

import numpy as np

from export.search.faiss_index import FaissIndex
from export.search.kinds import APPROXIMATE_FROM, recall

QUERIES, TOP_K = 256, 10


def measured_recall(index: FaissIndex) -> float | None:
    """Measure the recall of an index: search some of its items, and count how many of their 10 nearest it finds.

    The reference is an exact search of the same codes, by `export.search.kinds.recall`. The item itself does not count.

    Returns:
        The share, or None where the index is searched exactly.
    """
    if index.kind.name == "flat" or len(index) < APPROXIMATE_FROM:
        return None
    codes = index.codes()
    queries = codes[np.sort(np.random.default_rng(0).choice(len(codes), min(QUERIES, len(codes)), replace=False))]
    exact = exact_distances(queries, codes, TOP_K + 1)
    found = np.full(exact.shape, np.iinfo(np.int32).max)
    for row, hits in zip(found, index.search(queries, TOP_K + 1), strict=True):
        row[: len(hits)] = [hit.distance for hit in hits]
    return recall(found[:, 1:], exact[:, 1:])


def exact_distances(queries: np.ndarray, codes: np.ndarray, top_k: int) -> np.ndarray:
    """Return the distances of the nearest codes, nearest first: int32 (Q, k)."""
    import faiss

    return faiss.knn_hamming(queries, codes, top_k)[0]
