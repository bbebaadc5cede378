"""What each query finds: distances, relevance and groups of equal distance, one query at a time on all cores."""

import concurrent.futures
import os
from collections.abc import Callable

import numpy as np

from saat_tf.hamming import as_words, check_packed, cutoff_distance, distances_of_words

# A thread takes this many queries at a time: enough to outweigh handing them over, few enough to share out evenly.
BLOCK_QUERIES = 32


class Search:
    """Queries and a database with codes and labels as bits, which is what makes ranking fast.

    Nothing of size Q x N is ever held: a query costs a few passes over N small integers, and of the labels only those
    of the items found are read.

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
        >>> search.distances(0).tolist(), search.relevant(0).tolist()
        ([1, 0, 2], [True, False, True])
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

    def distances(self, query: int) -> np.ndarray:
        """Return the Hamming distance of every item to one query: unsigned integers (N,)."""
        return distances_of_words(self._query_codes[:, query], self._database_codes)

    def relevant(self, query: int, items: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Tell which `items`, the whole database by default, share a label with one query: bool, one an item."""
        return share_labels(self._query_labels[:, query], self._database_labels, items)

    def groups(self, query: int, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Count items and relevant items at each distance, nearest first, up to the distance of rank `top_k`.

        Returns:
            Two int64 arrays (D,): items and relevant items of each distance that occurs.
        """
        distances = self.distances(query)
        items = np.flatnonzero(distances <= cutoff_distance(distances, top_k))
        distances, hits = distances[items], self.relevant(query, items)
        sizes = np.bincount(distances)
        occurs = sizes > 0
        return sizes[occurs], np.bincount(distances[hits], minlength=len(sizes))[occurs]

    def each_query(self, function: Callable[[int], object]) -> np.ndarray:
        """Apply `function` to every query's index, on all cores, and stack what it returns (NumPy frees its lock)."""
        return each(function, self.num_queries)


def each(function: Callable[[int], object], number: int) -> np.ndarray:
    """Stack `function(0)` ... `function(number - 1)`, worked out by as many threads as there are cores."""
    blocks = [range(start, min(start + BLOCK_QUERIES, number)) for start in range(0, number, BLOCK_QUERIES)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda block: [function(index) for index in block], blocks)
        return np.array([result for block in results for result in block])


def pack_labels(query_labels: np.ndarray, database_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn label rows into words of bits, one plane a word: (Q, C) and (N, C) of 0/1 -> uint64 (ceil(C / 64), Q or N).

    Raises:
        ValueError: the two differ in width, or hold a value other than 0 and 1.
    """
    labels = {"query_labels": np.asarray(query_labels), "database_labels": np.asarray(database_labels)}
    for name, rows in labels.items():
        if rows.ndim != 2 or not ((rows == 0) | (rows == 1)).all():
            raise ValueError(
                f"`{name}` must be rows of 0 and 1, one row an item. Received: {rows.dtype} of shape {rows.shape}"
                + (f" with values {np.unique(rows)[:5].tolist()}." if rows.ndim == 2 else ".")
            )
    queries, database = labels.values()
    if queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"Label rows of queries and database must have one width. Received: {queries.shape[1]} and "
            f"{database.shape[1]} columns."
        )
    return as_words(np.packbits(queries != 0, axis=1)), as_words(np.packbits(database != 0, axis=1))


def share_labels(query_words: np.ndarray, database_words: np.ndarray, items: np.ndarray | slice) -> np.ndarray:
    """Tell which `items` have a bit in common with one query: uint64 (V,) and (V, N) from `pack_labels` -> bool."""
    common = query_words[0] & database_words[0][items]
    for query_word, plane in zip(query_words[1:], database_words[1:], strict=True):
        common |= query_word & plane[items]
    return common != 0
