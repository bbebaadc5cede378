"""Compilation by XLA: chosen by the caller, and never inherited from the machine."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

Batch = tuple[tf.Tensor, ...]


def compiled_for_whole_batches(function: Callable) -> Callable:
    """Compile `function(batch, *shared)` by XLA, once: for batches of the size of the first one.

    XLA compiles for one shape, and again for each other one, which takes seconds to minutes. So a batch of another
    size, such as the last one of a data set, runs as a graph without XLA, traced once for all sizes. Both do the same
    up to rounding. XLA drops what a graph checks (`tf.debugging`): check batches before they are passed.

    Args:
        function: of a tuple of tensors whose first axis is the batch, and of tensors for the whole batch.

    Example:
        >>> total = compiled_for_whole_batches(lambda batch, factor: factor * tf.reduce_sum(batch[0]))
        >>> [float(total((tf.ones(size),), tf.constant(2.0))) for size in (4, 4, 3)]
        [8.0, 8.0, 6.0]
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)
    plain = tf.function(function, reduce_retracing=True, autograph=False)
    whole = None

    def call(batch: Batch, *shared: tf.Tensor) -> object:
        nonlocal whole
        whole = batch[0].shape[0] if whole is None else whole
        return (compiled if batch[0].shape[0] == whole else plain)(batch, *shared)

    return call


class StepModel(keras.Model):
    """Base of what `fit` trains by a `train_step` of its own on tuples of tensors.

    Whether the step is compiled by XLA is what `compile` is told. Keras would choose XLA wherever there is one GPU, so
    that the same program computes by other rounding, and without checks, on another machine.
    """

    optimizer: keras.optimizers.Optimizer
    train_function: Any  # None until it is made, and so is the other
    test_function: Any

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "rmsprop",
        *,
        jit_compile: bool | str = "auto",
        **options: Any,
    ) -> None:
        """Compile.

        Args:
            optimizer: what trains.
            jit_compile: compile the step by XLA, for batches of the size of the first one. Losses and weights are
                equal up to rounding. It is faster or slower, as the machine and the network have it; the first step
                takes longer. A setting of the machine: it is not saved with the model. "auto" is False, on every
                machine.
            **options: those of `keras.Model.compile`.

        Raises:
            ValueError: `jit_compile` is something else, or is True over several replicas or with several steps an
                execution.
        """
        if jit_compile not in (True, False, "auto"):
            raise ValueError(f'`jit_compile` must be True, False or "auto". Received: {jit_compile!r}.')
        jit_compile = jit_compile is True
        if jit_compile and self.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "`jit_compile` trains on one device: XLA compiles no exchange between replicas. Received: "
                f"{self.distribute_strategy.num_replicas_in_sync} replicas. Leave it out, or train on one."
            )
        if jit_compile and options.get("steps_per_execution", 1) != 1:
            raise ValueError(
                f"`jit_compile` takes one step an execution. Received: {options['steps_per_execution']}. Leave out one "
                "of the two."
            )
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **options)

    def get_compile_config(self) -> dict:
        """Return what `compile` was told, less what is of the machine."""
        return {name: value for name, value in super().get_compile_config().items() if name != "jit_compile"}

    def compile_from_config(self, config: dict) -> None:
        """Compile as a saved model was, which Keras does by itself for its own `compile` alone."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force: bool = False) -> None:
        """Make `train_function`, which does a step on the next batch of an iterator and returns the losses."""
        if not self.jit_compile:
            super().make_train_function(force)
        elif self.train_function is None or force:
            # What makes an optimizer's variables is not to be compiled.
            self.optimizer.build(self.trainable_variables)
            self.train_function = _on_next_batch(self.train_step)

    def make_test_function(self, force: bool = False) -> None:
        """Make `test_function`, which evaluates the next batch of an iterator and returns the losses."""
        if not self.jit_compile:
            super().make_test_function(force)
        elif self.test_function is None or force:
            self.test_function = _on_next_batch(self.test_step)


def _on_next_batch(step: Callable[[Batch], dict[str, tf.Tensor]]) -> Callable[[Iterator[Batch]], dict[str, tf.Tensor]]:
    compiled = compiled_for_whole_batches(step)
    return lambda iterator: compiled(next(iterator))
