"""Shared functions of the pairwise losses."""

import tensorflow as tf

from saat_tf.replicas import several, share


def mean_over(values: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Compute the mean of `values` over the chosen pairs.

    Args:
        values: float (B, N).
        pairs: float (B, N) of 0/1, 1 for a pair that counts.

    Returns:
        Scalar; 0 where no pair is chosen.

    Example:
        >>> float(mean_over(tf.constant([[1.0, 5.0, 3.0]]), tf.constant([[1.0, 0.0, 1.0]])))
        2.0
    """
    return tf.math.divide_no_nan(tf.reduce_sum(values * pairs), tf.reduce_sum(pairs))


def mean_over_replicas(values: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Compute this replica's part of the mean of `values` over the chosen pairs of all replicas' rows.

    The sum of the replicas' results, each times the replica's share of the batch, is that mean. With one replica it is
    `mean_over`.
    """
    context, count = several(), tf.reduce_sum(pairs)
    if context is not None:
        count = context.all_reduce(tf.distribute.ReduceOp.SUM, count) * share(values)
    return tf.math.divide_no_nan(tf.reduce_sum(values * pairs), count)
