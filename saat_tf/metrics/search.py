"""Exhaustive search: distances, relevance and groups of equal distance, a few queries at a time on all cores."""

import concurrent.futures
import os
from collections.abc import Callable

import numpy as np

from saat_tf.hamming import as_words, check_packed, distances_of_words, nearest
from saat_tf.labels import check_labels

# A thread takes this many queries at a time: NumPy then works longer between two turns of Python's lock.
BLOCK_QUERIES = 32
# But at most so many pairs of query and item, a byte each or, for labels, eight.
BLOCK_PAIRS = 1 << 23


class Search:
    """Queries and a database with codes and labels as bits, which is what makes ranking fast.

    Nothing of size Q x N is ever held: a query costs a few passes over N small integers, and of the labels only those
    of the items found are read. A method takes a `block` of queries, a slice of their indices, with B queries in it.

    Args:
        query_codes: uint8 (Q, K / 8), packed.
        database_codes: uint8 (N, K / 8), packed.
        query_labels: (Q, C) of 0/1.
        database_labels: (N, C) of 0/1.

    Raises:
        ValueError: no query, an empty database, codes that are not packed or differ in length, labels that are not 0/1
            or differ in width, or codes and labels of different numbers.

    Example:
        >>> search = Search(np.uint8([[0]]), np.uint8([[1], [0], [3]]), [[1, 0]], [[1, 0], [0, 1], [1, 1]])
        >>> search.distances(slice(0, 1)).tolist(), search.relevant(slice(0, 1)).tolist()
        ([[1, 0, 2]], [[True, False, True]])
    """

    def __init__(
        self, query_codes: np.ndarray, database_codes: np.ndarray, query_labels: np.ndarray, database_labels: np.ndarray
    ) -> None:
        if not len(query_codes) or not len(database_codes):
            raise ValueError(
                f"A search needs queries and a database. Received: {len(query_codes)} and {len(database_codes)}."
            )
        if len(query_codes) != len(query_labels) or len(database_codes) != len(database_labels):
            raise ValueError(
                f"Codes and labels must come in pairs. Received: {len(query_codes)} and {len(query_labels)} for the "
                f"queries, {len(database_codes)} and {len(database_labels)} for the database."
            )
        check_packed(query_codes=query_codes, database_codes=database_codes)
        self.num_queries, self.num_items = len(query_codes), len(database_codes)
        self._query_codes, self._database_codes = as_words(query_codes), as_words(database_codes)
        self._query_labels, self._database_labels = pack_labels(query_labels, database_labels)

    def distances(self, block: slice) -> np.ndarray:
        """Return the Hamming distance of every item to each query of a block: unsigned integers (B, N)."""
        return distances_of_words(self._query_codes[:, block], self._database_codes)

    def relevant(self, block: slice, items: np.ndarray | None = None) -> np.ndarray:
        """Tell which items share a label with each query of a block.

        Args:
            block: B queries.
            items: int (B, n), items of each query; the whole database by default.

        Returns:
            bool (B, n), or (B, N).
        """
        return share_labels(self._query_labels[:, block], self._database_labels, items)

    def groups(self, block: slice, top_k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Count items and relevant items at each distance, nearest first, up to the distance of rank `top_k`.

        Returns:
            For each query two int64 arrays (D,): items and relevant items of each distance that occurs.
        """
        found = []
        for query, row in zip(range(self.num_queries)[block], self.distances(block), strict=True):
            items = nearest(row, top_k)
            row, hits = row[items], self.relevant(slice(query, query + 1), items[None])[0]
            sizes = np.bincount(row)
            relevant = np.bincount(row[hits], minlength=len(sizes))
            last = np.searchsorted(np.cumsum(sizes), top_k)
            occurs = np.flatnonzero(sizes[: last + 1])
            found.append((sizes[occurs], relevant[occurs]))
        return found

    def each(self, function: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Apply `function` to blocks of queries on all cores, and put together the values that it returns."""
        return each_block(function, self.num_queries, self.num_items)


def each_block(function: Callable[[slice], np.ndarray], num_queries: int, num_items: int) -> np.ndarray:
    """Put together what `function` returns for slices of the queries, one after the other, by a thread for each core.

    A slice contains `BLOCK_QUERIES` queries, fewer where there are so many items that they would take too much memory.
    """
    step = max(1, min(BLOCK_QUERIES, BLOCK_PAIRS // max(num_items, 1)))
    blocks = [slice(start, min(start + step, num_queries)) for start in range(0, num_queries, step)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(function, blocks)))


def pack_labels(query_labels: np.ndarray, database_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn label rows into words of bits, one plane a word: (Q, C) and (N, C) of 0/1 -> uint64 (ceil(C / 64), Q or N).

    Raises:
        ValueError: the two differ in width, or contain a value other than 0 and 1.
    """
    queries, database = check_labels(query_labels, "query_labels"), check_labels(database_labels, "database_labels")
    if queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"Label rows of queries and database must have one width. Received: {queries.shape[1]} and "
            f"{database.shape[1]} columns."
        )
    return as_words(np.packbits(queries != 0, axis=1)), as_words(np.packbits(database != 0, axis=1))


def share_labels(query_words: np.ndarray, database_words: np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
    """Tell which items have a bit in common with each query, from `pack_labels`.

    Args:
        query_words: uint64 (V, Q).
        database_words: uint64 (V, N).
        items: int (Q, n), items of each query; the whole database by default.

    Returns:
        bool (Q, n), or (Q, N).
    """
    planes = [plane if items is None else plane.take(items) for plane in database_words]
    common = query_words[0][:, None] & planes[0]
    for query_word, plane in zip(query_words[1:], planes[1:], strict=True):
        common |= query_word[:, None] & plane
    return common != 0
