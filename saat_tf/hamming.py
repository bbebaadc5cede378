"""Hamming distances on packed codes, and the one ranking that everything else uses."""

import numpy as np


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
    query_codes, database_codes = np.asarray(query_codes), np.asarray(database_codes)
    for name, packed in (("query_codes", query_codes), ("database_codes", database_codes)):
        if packed.dtype != np.uint8 or packed.ndim != 2:
            raise ValueError(
                f"`{name}` must be packed codes: uint8 of shape (items, bits / 8). Received: {packed.dtype} of shape "
                f"{packed.shape}. Pack codes with `saat_tf.codes.pack_codes` first."
            )
    if query_codes.shape[1] != database_codes.shape[1]:
        raise ValueError(
            f"Queries and database must have codes of one length. Received: {8 * query_codes.shape[1]} and "
            f"{8 * database_codes.shape[1]} bits. Encode both with the same model."
        )
    query_words, database_words = _as_words(query_codes), _as_words(database_codes)
    distances = np.zeros((len(query_codes), len(database_codes)), np.uint16)
    for word in range(query_words.shape[1]):
        distances += np.bitwise_count(query_words[:, word, None] ^ database_words[None, :, word])
    return distances


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
    return np.argsort(distances, axis=1, kind="stable")[:, :top_k]


def _as_words(packed: np.ndarray) -> np.ndarray:
    """View the bytes of each row as uint64 words, padded with zero bytes that never differ."""
    padding = -packed.shape[1] % 8
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, padding)))).view(np.uint64)
