"""The kinds of FAISS index: flat compares with every code, IVF and HNSW with some, and miss a part of the nearest."""

import dataclasses
import json
import math
from typing import Annotated, Literal

import numpy as np
import tyro

try:
    import faiss
except ImportError as error:
    raise ImportError("Search needs faiss. Install it: pip install 'saat-tf[search]'.") from error

# With fewer codes an exhaustive search is faster than IVF and HNSW, and exact.
APPROXIMATE_FROM = 10_000
TRAINING_CODES_PER_LIST = 40  # faiss warns below 39


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """Kind of FAISS index and its search effort: a larger effort finds more of the nearest, and takes longer."""

    name: Annotated[Literal["flat", "ivf", "hnsw"], tyro.conf.arg(name="kind")] = "flat"
    """flat compares with every code, ivf with those of the nearest lists, hnsw traverses a graph of neighbors."""
    nprobe: int = 64
    """IVF: lists to search for a query, of about sqrt(items)."""
    ef_search: int = 256
    """HNSW: candidates kept during the traversal (efSearch)."""
    links: int = 16
    """HNSW: neighbors of an item in the graph, twice as many in the bottom layer."""

    def __post_init__(self) -> None:
        if self.name not in ("flat", "ivf", "hnsw"):
            raise ValueError(f"The kind of an index is flat, ivf or hnsw. Received: {self.name}.")
        if min(self.nprobe, self.ef_search) < 1 or self.links < 2:
            raise ValueError(
                "nprobe and ef_search must be at least 1, and links at least 2. Received: "
                f"{self.nprobe}, {self.ef_search} and {self.links}."
            )


def build(kind: Kind, codes: np.ndarray, *, approximate_from: int = APPROXIMATE_FROM) -> faiss.IndexBinary:
    """Build the FAISS index of packed codes, uint8 (N, K / 8): flat where there are few; deterministic."""
    bits = 8 * codes.shape[1]
    if kind.name == "flat" or len(codes) < approximate_from:
        return flat(codes)
    if kind.name == "ivf":
        lists = 2 ** round(math.log2(math.sqrt(len(codes))))
        ivf = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(bits), bits, lists)
        ivf.cp.seed = 0
        sample = min(len(codes), TRAINING_CODES_PER_LIST * lists)
        chosen = np.sort(np.random.default_rng(0).choice(len(codes), sample, replace=False))
        ivf.train(np.ascontiguousarray(codes[chosen]))
        index: faiss.IndexBinary = ivf
    else:
        index = faiss.IndexBinaryHNSW(bits, kind.links)
    index.add(np.ascontiguousarray(codes))
    return index


def flat(codes: np.ndarray) -> faiss.IndexBinaryFlat:
    """Build the index that compares with every code."""
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(np.ascontiguousarray(codes))
    return index


def decoded(text: str) -> Kind:
    """Read a kind from the JSON that an index stores."""
    return Kind(**json.loads(text))


def set_effort(index: faiss.IndexBinary, kind: Kind) -> None:
    """Set the search effort of an index to that of `kind`."""
    if isinstance(index, faiss.IndexBinaryIVF):
        index.nprobe = kind.nprobe
    elif isinstance(index, faiss.IndexBinaryHNSW):
        index.hnsw.efSearch = kind.ef_search


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the recall of an approximate search: the share of its results that are as near as the exact ones.

    Many codes tie, and the order of tied items is arbitrary. So an item counts when its distance is at most that of the
    last exact one.

    Args:
        found: distances of the approximate search, (Q, k); places without an item have more than any distance.
        exact: distances of the exact search, (Q, k), nearest first.

    Example:
        >>> recall(np.array([[1, 2, 4]]), np.array([[1, 2, 3]]))
        0.6666666666666666
    """
    return float(np.mean(found <= exact[:, -1:]))
