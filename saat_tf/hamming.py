"""Hamming distances on packed codes, and the one ranking that everything else uses."""

import numpy as np

WORD_BITS = 64
# Distances to a block of this many items are counted at a time: its words stay in the processor's cache.
BLOCK_ITEMS = 1 << 15
# About as many distances are looked at to guess how far the nearest items reach.
SAMPLE_ITEMS = 1 << 11


def hamming_distances(query_codes: np.ndarray, database_codes: np.ndarray) -> np.ndarray:
    """Count the differing bits between every query and every database item.

    Args:
        query_codes: uint8 (Q, K / 8), packed.
        database_codes: uint8 (N, K / 8), packed by the same rule.

    Returns:
        uint16 (Q, N), each in [0, K].

    Raises:
        ValueError: the two are not uint8 matrices of one width.

    Example:
        >>> hamming_distances(np.uint8([[0b1011]]), np.uint8([[0b1011], [0b0000]])).tolist()
        [[0, 3]]
    """
    check_packed(query_codes=query_codes, database_codes=database_codes)
    query_words, database_words = as_words(query_codes), as_words(database_codes)
    distances = np.empty((len(query_codes), len(database_codes)), np.uint16)
    for query, row in enumerate(distances):
        row[:] = distances_of_words(query_words[:, query], database_words)
    return distances


def paired_distances(codes: np.ndarray, other_codes: np.ndarray) -> np.ndarray:
    """Count the differing bits of each code and its partner: bits that an attack flipped, or the way to a given code.

    Args:
        codes: uint8 (N, K / 8), packed.
        other_codes: uint8 (N, K / 8), packed: row i is the partner of row i.

    Returns:
        int64 (N,), each in [0, K].

    Raises:
        ValueError: the two are not uint8 matrices of one shape.

    Example:
        >>> paired_distances(np.uint8([[0b1011], [0b0001]]), np.uint8([[0b1010], [0b0001]])).tolist()
        [1, 0]
    """
    check_packed(codes=codes, other_codes=other_codes)
    if len(codes) != len(other_codes):
        raise ValueError(
            f"`codes` and `other_codes` must pair up row by row. Received: {len(codes)} and {len(other_codes)} rows."
        )
    return np.bitwise_count(np.asarray(codes) ^ np.asarray(other_codes)).sum(axis=1, dtype=np.int64)


def nearest(distances: np.ndarray, top_k: int | None = None) -> np.ndarray:
    """Find the items nearest to one query, nearest first, equal distances by database index.

    Only items up to the distance at which the first `top_k` end are sorted.

    Args:
        distances: unsigned integers (N,).
        top_k: how many items to return; all of them by default.

    Returns:
        int64 (min(top_k, N),): database indices.

    Example:
        >>> nearest(np.uint8([2, 0, 2, 1]), top_k=3).tolist()
        [1, 3, 0]
    """
    if top_k is None or top_k >= len(distances):
        return np.argsort(distances, kind="stable")
    items = np.flatnonzero(distances <= cutoff_distance(distances, top_k))
    return items[np.argsort(distances[items], kind="stable")[:top_k]]


def cutoff_distance(distances: np.ndarray, top_k: int) -> int:
    """Return the least distance within which lie `top_k` of the `distances` (N,), or all where N is smaller.

    Example:
        >>> cutoff_distance(np.uint8([2, 0, 2, 1]), top_k=2)
        1
    """
    top_k = min(top_k, len(distances))
    sample = np.sort(distances[:: 1 + len(distances) // SAMPLE_ITEMS], kind="stable")
    cutoff = int(sample[(top_k - 1) * len(sample) // len(distances)])  # a guess, from which it is a few steps
    while np.count_nonzero(distances <= cutoff) < top_k:
        cutoff += 1
    while cutoff and np.count_nonzero(distances < cutoff) >= top_k:
        cutoff -= 1
    return cutoff


def rank(distances: np.ndarray, top_k: int | None = None) -> np.ndarray:
    """Order the database for each query: nearest first, equal distances by database index (a stable sort).

    Args:
        distances: (Q, N) from `hamming_distances`.
        top_k: how many ranks to return; all of them by default.

    Returns:
        int64 (Q, min(top_k, N)): database indices.

    Example:
        >>> rank(np.uint16([[2, 0, 2, 1]])).tolist()
        [[1, 3, 0, 2]]
    """
    num_items = distances.shape[1]
    order = np.empty((len(distances), num_items if top_k is None else min(top_k, num_items)), np.int64)
    for row, ranks in zip(distances, order, strict=True):
        ranks[:] = nearest(row, top_k)
    return order


def check_packed(**codes: np.ndarray) -> None:
    """Raise `ValueError`, with the argument's name, unless all `codes` are packed codes of one length."""
    for name, packed in codes.items():
        packed = np.asarray(packed)
        if packed.dtype != np.uint8 or packed.ndim != 2:
            raise ValueError(
                f"`{name}` must be packed codes: uint8 of shape (items, bits / 8). Received: {packed.dtype} of shape "
                f"{packed.shape}. Pack codes with `saat_tf.codes.pack_codes` first."
            )
    bits = {name: 8 * np.shape(packed)[1] for name, packed in codes.items()}
    if len(set(bits.values())) > 1:
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in bits)} must have codes of one length. Received: "
            f"{' and '.join(map(str, bits.values()))} bits. Encode both with the same model."
        )


def as_words(packed: np.ndarray) -> np.ndarray:
    """Lay out packed bits as words, one plane a word: uint8 (N, K / 8) -> uint64 (ceil(K / 64), N).

    The last word is filled up with zero bits, which never differ.
    """
    padding = -packed.shape[1] % (WORD_BITS // 8)
    words = np.ascontiguousarray(np.pad(packed, ((0, 0), (0, padding)))).view(np.uint64)
    return np.ascontiguousarray(words.T)


def distances_of_words(query_words: np.ndarray, database_words: np.ndarray) -> np.ndarray:
    """Count the differing bits between one query and every item, both from `as_words`.

    Args:
        query_words: uint64 (W,).
        database_words: uint64 (W, N).

    Returns:
        (N,), uint8 where that holds every distance, else uint16.
    """
    num_words, num_items = database_words.shape
    distances = np.empty(num_items, np.uint8 if num_words * WORD_BITS <= np.iinfo(np.uint8).max else np.uint16)
    for start in range(0, num_items, BLOCK_ITEMS):
        words = database_words[:, start : start + BLOCK_ITEMS]
        block = distances[start : start + BLOCK_ITEMS]
        np.bitwise_count(query_words[0] ^ words[0], out=block)
        for query_word, plane in zip(query_words[1:], words[1:], strict=True):
            block += np.bitwise_count(query_word ^ plane)
    return distances
