"""What the pairwise losses share."""

import tensorflow as tf


def mean_over(values: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Compute the mean of `values` over the chosen pairs.

    Under several replicas the number of pairs is averaged over them, so that the mean of the replicas' results is the
    mean over the pairs of all.

    Args:
        values: float (B, N).
        pairs: float (B, N) of 0/1, 1 for a pair that counts.

    Returns:
        Scalar; 0 where no pair is chosen.

    Example:
        >>> float(mean_over(tf.constant([[1.0, 5.0, 3.0]]), tf.constant([[1.0, 0.0, 1.0]])))
        2.0
    """
    count = tf.reduce_sum(pairs)
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        count = replica.all_reduce(tf.distribute.ReduceOp.MEAN, count)
    return tf.math.divide_no_nan(tf.reduce_sum(values * pairs), count)
