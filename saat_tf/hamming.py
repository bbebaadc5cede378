"""Hamming distances on packed codes, and the one ranking that everything else uses."""

import numpy as np

WORD_BITS = 64
# So many distances are counted at a time: their words stay in the processor's cache.
BLOCK_DISTANCES = 1 << 17
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
    return distances_of_words(as_words(query_codes), as_words(database_codes)).astype(np.uint16, copy=False)


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


def rank(distances: np.ndarray, top_k: int | None = None) -> np.ndarray:
    """Order the database for each query: nearest first, equal distances by database index (a stable sort).

    Args:
        distances: (Q, N) from `hamming_distances`.
        top_k: how many ranks to return; all of them by default. The fewer, the faster.

    Returns:
        int64 (Q, min(top_k, N)): database indices.

    Example:
        >>> rank(np.uint16([[2, 0, 2, 1]])).tolist()
        [[1, 3, 0, 2]]
    """
    num_items = distances.shape[1]
    if top_k is None or top_k >= num_items:
        return np.argsort(distances, axis=1, kind="stable")
    order = np.empty((len(distances), top_k), np.int64)
    for row, ranks in zip(distances, order, strict=True):
        items = nearest(row, top_k)
        items.take(np.argsort(row.take(items), kind="stable")[:top_k], out=ranks)
    return order


def nearest(distances: np.ndarray, top_k: int) -> np.ndarray:
    """Find the items of one query within some distance that covers at least `top_k`; all that tie with one come along.

    How far that is, is guessed from a sample and put right: the guess decides only how many more come along.

    Args:
        distances: unsigned integers (N,).
        top_k: in [1, N].

    Returns:
        int64 (n,), n >= top_k: database indices in the order of the database.

    Example:
        >>> nearest(np.arange(100, dtype=np.uint8), top_k=4).tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8]
    """
    sample = np.sort(distances[:: 1 + len(distances) // SAMPLE_ITEMS], kind="stable")
    wanted = top_k * len(sample) / len(distances)
    reach = int(sample[min(int(wanted + 2 * wanted**0.5), len(sample) - 1)])  # two standard deviations: rarely too near
    items = _places_within(distances, reach)
    while len(items) < top_k:
        reach += 1
        items = _places_within(distances, reach)
    return items


def _places_within(distances: np.ndarray, reach: int) -> np.ndarray:
    """Return `np.flatnonzero(distances <= reach)`, several times faster where few are.

    On sparse masks NumPy jumps from one place to the next, and each jump is a mispredicted branch. So first the words
    of eight items that have a place are found, without jumps, and then the places in them.
    """
    within = np.zeros(-(-len(distances) // 8) * 8, bool)
    np.less_equal(distances, reach, out=within[: len(distances)])
    words = within.view(np.uint64)
    occupied = np.flatnonzero(words != 0)
    places = np.flatnonzero(words.take(occupied).view(bool))
    return (occupied.take(places >> 3) << 3) + (places & 7)


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
    """Count the differing bits between every query and every item, both from `as_words`.

    Args:
        query_words: uint64 (W, Q).
        database_words: uint64 (W, N).

    Returns:
        (Q, N), uint8 where that represents every distance, else uint16.
    """
    (num_words, num_queries), num_items = query_words.shape, database_words.shape[1]
    small = num_words * WORD_BITS <= np.iinfo(np.uint8).max
    distances = np.empty((num_queries, num_items), np.uint8 if small else np.uint16)
    step = -(-BLOCK_DISTANCES // max(num_queries, 1))
    differing = np.empty((num_queries, min(step, num_items)), np.uint64)
    for start in range(0, num_items, step):
        block = distances[:, start : start + step]
        bits = differing[:, : block.shape[1]]
        for word, (query_word, plane) in enumerate(zip(query_words, database_words, strict=True)):
            np.bitwise_xor(query_word[:, None], plane[start : start + step], out=bits)
            if word == 0:
                np.bitwise_count(bits, out=block)
            else:
                block += np.bitwise_count(bits)
    return distances
