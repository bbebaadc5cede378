"""Bits that change: the flips of an attack, or the way to given codes such as the mainstay codes."""

import numpy as np

from saat_tf.hamming import paired_distances


def flip_distribution(codes: np.ndarray, other_codes: np.ndarray) -> np.ndarray:
    """Compute which share of the items differs from its partner in 0, 1, ... K bits.

    `saat_tf.hamming.paired_distances` gives the number of each item, and its mean the mean number of flipped bits.

    Args:
        codes: uint8 (N, K / 8), packed, at least one row.
        other_codes: uint8 (N, K / 8), packed: after the attack, or the given codes.

    Returns:
        float64 (K + 1,), which sums to 1.

    Raises:
        ValueError: no items, or what `paired_distances` refuses.

    Example:
        >>> flip_distribution(np.uint8([[0], [0]]), np.uint8([[0], [0b101]])).tolist()[:4]
        [0.5, 0.0, 0.5, 0.0]
    """
    distances = paired_distances(codes, other_codes)
    if not len(distances):
        raise ValueError("A distribution needs items. Received: 0 rows of codes.")
    return np.bincount(distances, minlength=8 * np.shape(codes)[1] + 1) / len(distances)
