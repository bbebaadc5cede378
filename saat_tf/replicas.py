"""What a replica must know of the others, such that together they do what one would do with the whole batch.

Outside of several replicas each function is the plain one: a batch is whole.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from saat_tf.random_numbers import uniform


def several() -> tf.distribute.ReplicaContext | None:
    """Return the context of this replica where there are several, else None."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def share(rows: tf.Tensor) -> tf.Tensor:
    """Return which part of the whole batch `rows` (B, ...) are: float32 scalar in (0, 1].

    The mean over a whole batch is the sum, over the replicas, of their share times their mean. Parts may be uneven.

    Example:
        >>> float(share(tf.zeros((3, 2))))
        1.0
    """
    context = several()
    if context is None:
        return tf.constant(1.0)
    count = tf.cast(tf.shape(rows)[0], tf.float32)
    return count / context.all_reduce(tf.distribute.ReduceOp.SUM, count)


def gather(rows: tf.Tensor) -> tf.Tensor:
    """Return the rows (B, ...) of all replicas, in their order; gradients flow back to each.

    Example:
        >>> gather(tf.zeros((3, 2))).shape
        TensorShape([3, 2])
    """
    context = several()
    return rows if context is None else context.all_gather(rows, axis=0)


def finite_in_all_or_none(gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Return this replica's `gradients`, made infinite where those of another replica are not finite.

    Keras' LossScaleOptimizer asks the first replica alone whether a step is to be skipped.

    Example:
        >>> finite_in_all_or_none([tf.ones(2)])[0].numpy().tolist()
        [1.0, 1.0]
    """
    context = several()
    if context is None:
        return list(gradients)
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    faults = context.all_reduce(tf.distribute.ReduceOp.SUM, 1.0 - tf.cast(finite, tf.float32))
    poison = tf.where(faults > 0, math.inf, 0.0)
    return [gradient + poison for gradient in gradients]


def uniform_rows(shape: tf.Tensor, seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Draw this replica's rows of what `saat_tf.random_numbers.uniform` draws for the whole batch: float32.

    Args:
        shape: int (D,), of this replica's rows; its first entry is their number.
        seed: int (2,), the same in all replicas.
        low: lower bound.
        high: upper bound.
    """
    context = several()
    if context is None:
        return uniform(shape, seed, low, high)
    counts = context.all_gather(shape[:1], axis=0)  # (R,)
    start = tf.reduce_sum(counts[: context.replica_id_in_sync_group])
    whole = tf.concat([tf.reduce_sum(counts)[None], shape[1:]], axis=0)
    return uniform(whole, seed, low, high)[start : start + shape[0]]


def deal(batches: tf.data.Dataset, count: int, mine: range) -> tf.data.Dataset:
    """Cut each batch into parts for `count` replicas and give those numbered `mine`, one after the other.

    Parts are consecutive and differ by at most one row. A batch of fewer rows than replicas goes whole to each of them,
    which leaves its mean what it is; so no replica ever has nothing.

    Args:
        batches: of tuples of tensors (B, ...).
        count: R, replicas of all machines.
        mine: those of this machine.

    Example:
        >>> batches = tf.data.Dataset.range(7).batch(5).map(lambda x: (x,))
        >>> [part.numpy().tolist() for (part,) in deal(batches, 2, range(2))]
        [[0, 1], [2, 3, 4], [5], [6]]
    """

    def parts(*batch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.shape(batch[0], tf.int64)[0]

        def part(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            start, stop = _cut(rows, count, number, number + 1)
            return tuple(values[start:stop] for values in batch)

        return tf.data.Dataset.range(mine.start, mine.stop).map(part)

    return batches.flat_map(parts).prefetch(tf.data.AUTOTUNE)


def _cut(rows: tf.Tensor, count: int, first: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the rows, from and to, of a batch of `rows` that replicas `first` to before `end` of `count` take."""
    is_small = rows < count
    return tf.where(is_small, tf.zeros_like(rows), first * rows // count), tf.where(is_small, rows, end * rows // count)


def taken_here(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
    """Return (row, rows) -> whether `distribute` gives that row of a batch of so many to a replica of this machine.

    None where this machine takes every row, as the only one does.
    """
    count, resolver = strategy.num_replicas_in_sync, strategy.cluster_resolver
    if resolver is None:
        return None
    local = count // resolver.cluster_spec().num_tasks("worker")
    mine = range(resolver.task_id * local, (resolver.task_id + 1) * local)

    def is_taken(row: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        start, stop = _cut(rows, count, mine.start, mine.stop)
        return (start <= row) & (row < stop)

    return is_taken


def step_over_workers(
    strategy: tf.distribute.MultiWorkerMirroredStrategy, train_step: Callable
) -> Callable[[Iterator], dict[str, tf.Tensor]]:
    """Make a function that trains on the next batch of an iterator and returns the replicas' mean losses.

    Keras' own takes the mean of its scalars along an axis, which is an error over several machines.
    """

    @tf.function(reduce_retracing=True)
    def step(iterator: Iterator) -> dict[str, tf.Tensor]:
        losses = strategy.run(train_step, (next(iterator),))
        return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None) for name, loss in losses.items()}

    return step


def distribute(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """Deal the batches of a data set to the replicas of a strategy; without several replicas they stay whole.

    Under several replicas the result begins again after the last batch, without end: take as many as there are.
    """
    count = strategy.num_replicas_in_sync
    if count == 1:
        return batches

    def mine(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = count // context.num_input_pipelines
        first = context.input_pipeline_id * local
        # Endless: TensorFlow would ask every replica before each step whether there is a batch for it.
        return deal(batches, count, range(first, first + local)).repeat()

    return strategy.distribute_datasets_from_function(mine)
