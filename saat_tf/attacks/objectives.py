"""Objectives that an attack maximizes: how near relaxed codes are to the codes that the attacker wants.

An attack that drives codes away from a code b wants -b. So there is one direction, and a targeted and a non-targeted
attack differ only in the sign of the code they are given.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

# What an objective reads beside the relaxed codes: wanted codes (B, K) in most attacks, a dict of tensors in others.
Goal: TypeAlias = tf.Tensor | dict[str, tf.Tensor]
Objective = Callable[[tf.Tensor, Goal], tf.Tensor]

# A bit that agrees with the wanted one by this much is left alone.
ADAPTIVE_MARGIN = 0.5


def alignment(relaxed_codes: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
    """Compute mean_k h_k t_k, the objective of the paper.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        wanted_codes: t, float (B, K) of -1/+1.

    Returns:
        float (B,) in [-1, 1].

    Example:
        >>> alignment(tf.constant([[0.5, -1.0]]), tf.constant([[1.0, 1.0]])).numpy().tolist()
        [-0.25]
    """
    return tf.reduce_mean(relaxed_codes * wanted_codes, axis=-1)


def adaptive_alignment(relaxed_codes: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
    """Compute sum_k 1[u_k < 0.5] (2 - u_k) u_k / m with u = h t and m the number of bits with u_k < 0.5.

    Bits that are wanted by a margin already are left alone, and the most wrong bits get the strongest push. With
    u = -s this is minus the non-targeted objective of the authors' attack code, sum_k 1[s_k > -0.5] (s_k + 2) s_k / m.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        wanted_codes: t, float (B, K) of -1/+1.

    Returns:
        float (B,) in [-3, 0.75]; 0 where no bit is active.

    Example:
        >>> adaptive_alignment(tf.constant([[0.9, -1.0]]), tf.constant([[1.0, 1.0]])).numpy().tolist()
        [-3.0]

    References:
        arXiv 2310.14637; differs from the authors' code in the targeted case, whose slope there vanishes at the most
        wrong bits.
    """
    agreement = relaxed_codes * wanted_codes
    active = tf.cast(agreement < ADAPTIVE_MARGIN, agreement.dtype)
    gains = active * (2.0 - agreement) * agreement
    return tf.reduce_sum(gains, axis=-1) / tf.maximum(tf.reduce_sum(active, axis=-1), 1.0)


def hinged_alignment(relaxed_codes: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
    """Compute mean_k min(h_k t_k, 0.5): alignment in which a bit that is wanted by a margin counts no more.

    Unlike `adaptive_alignment` it never falls as a bit improves, so objectives of different steps can be compared,
    which a rule that adapts its step needs.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        wanted_codes: t, float (B, K) of -1/+1.

    Returns:
        float (B,) in [-1, 0.5].

    Example:
        >>> hinged_alignment(tf.constant([[0.9, -1.0]]), tf.constant([[1.0, 1.0]])).numpy().tolist()
        [-0.25]
    """
    return tf.reduce_mean(tf.minimum(relaxed_codes * wanted_codes, ADAPTIVE_MARGIN), axis=-1)
