"""Operations across replicas, such that together they compute what one would with the whole batch.

Outside of several replicas each function is the plain one: a batch is whole.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from saat_tf.random_numbers import uniform

# Whether all replicas have the same rows: bool scalar, of the step that this replica's thread is in.
_IS_COPIED: contextvars.ContextVar[tf.Tensor | bool] = contextvars.ContextVar("is_copied", default=False)


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


@contextlib.contextmanager
def whole_batch(index: tf.Tensor) -> Iterator[None]:
    """Within, `gather` and `uniform_rows` count each row once, also of a batch that went whole to each replica.

    `deal` copies a batch that has fewer rows than there are replicas. Then all replicas begin with the same item; else
    no two do, since a batch has each item once.

    Args:
        index: int (B,), which items of the training set this replica's rows are.
    """
    context = several()
    if context is None:
        yield
        return
    first = context.all_gather(tf.identity(index[:1]), axis=0)  # (R,)
    token = _IS_COPIED.set(first[0] == first[1])
    try:
        yield
    finally:
        _IS_COPIED.reset(token)


def _rows_before(context: tf.distribute.ReplicaContext, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where this replica's `count` (1,) rows begin in the whole batch, and how many that has: scalars."""
    counts = context.all_gather(tf.identity(count), axis=0)  # (R,)
    start, total = tf.reduce_sum(counts[: context.replica_id_in_sync_group]), tf.reduce_sum(counts)
    is_copied = _IS_COPIED.get()
    return tf.where(is_copied, 0, start), tf.where(is_copied, count[0], total)


def gather(rows: tf.Tensor) -> tf.Tensor:
    """Return the rows (B, ...) of the whole batch, in the order of the replicas; gradients flow back to each.

    They are the same to the bit in all replicas. Of a batch that went whole to each, they are the first one's.

    Example:
        >>> gather(tf.zeros((3, 2))).shape
        TensorShape([3, 2])
    """
    context = several()
    if context is None:
        return rows
    _, total = _rows_before(context, tf.shape(rows)[:1])
    # A tensor of no operation in the replica has no device, and several workers cannot gather it.
    return context.all_gather(tf.identity(rows), axis=0)[:total]


def refuse_several(what: str, instead: str) -> None:
    """Refuse what does not do on several replicas what it does on one.

    Raises:
        ValueError: called in one of several replicas.

    Example:
        >>> refuse_several("`Free`", "Use NFGSM.")
    """
    context = several()
    if context is not None:
        raise ValueError(f"{what} trains on one replica. Received: {context.num_replicas_in_sync}. {instead}")


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
    start, total = _rows_before(context, shape[:1])
    whole = tf.concat([total[None], shape[1:]], axis=0)
    return uniform(whole, seed, low, high)[start : start + shape[0]]


def deal(batches: tf.data.Dataset, count: int, mine: range) -> tf.data.Dataset:
    """Cut each batch into parts for `count` replicas and give those numbered `mine`, one after the other.

    Parts are consecutive and differ by at most one row. A batch of fewer rows than replicas goes whole to each of them,
    so that none has nothing: means stay what they are, and `whole_batch` keeps copies from being counted as rows.

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
