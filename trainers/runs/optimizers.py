"""Optimizers of the trainings, whose learning rates fall as the authors' do."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from saat_tf.data import Split
from trainers.recipes.run_options import RunOptions


@dataclasses.dataclass(frozen=True)
class OwnRate:
    """Variables with a learning rate of their own, such as those of a backbone that must keep what it has learned.

    Args:
        variables: which.
        share: their learning rate, as a share of that of the others.
        frozen_steps: steps at the beginning in which they stay as they are.
    """

    variables: Sequence[keras.Variable]
    share: float
    frozen_steps: int = 0


def steps_of(recipe: RunOptions, train: Split, epochs: int) -> int:
    """Return the steps of so many epochs."""
    return -(-len(train) // recipe.batch_size) * epochs


def build_optimizer(
    recipe: RunOptions,
    train: Split,
    learning_rate: float,
    epochs: int,
    *,
    name: str,
    cuts: tuple[float, float],
    weight_decay: float,
    momentum: float,
    ema: float = 0.0,
    own_rate: OwnRate | None = None,
) -> keras.optimizers.Optimizer:
    """Build the optimizer `name`, whose learning rate falls over so many epochs of batches of `train`."""
    steps = steps_of(recipe, train, epochs)
    # The mean of the weights takes their place when `fit` ends.
    average: dict[str, Any] = {"use_ema": True, "ema_momentum": ema} if ema else {}
    if name == "adam":
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        adam = keras.optimizers.Adam if own_rate is None else _with_own_rate(keras.optimizers.Adam, own_rate)
        return adam(schedule, weight_decay=weight_decay or None, **average)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [round(cut * steps) for cut in cuts], [learning_rate * 0.1**i for i in range(3)]
    )
    # Keras decays apart from the gradient, PyTorch adds the decay to it; without momentum the step is the same.
    sgd = keras.optimizers.SGD if own_rate is None else _with_own_rate(keras.optimizers.SGD, own_rate)
    return sgd(schedule, momentum=momentum, weight_decay=weight_decay, **average)


def _with_own_rate(optimizer: type[keras.optimizers.Optimizer], own_rate: OwnRate) -> type[keras.optimizers.Optimizer]:
    """Return the class `optimizer` with `own_rate`; Adam's step does not shrink with the gradient, but with its rate.

    The variables with a rate of their own do not decay.
    """

    class WithOwnRate(optimizer):
        def build(self, variables: Sequence[keras.Variable]) -> None:
            super().build(variables)
            self.exclude_from_weight_decay(own_rate.variables)

        def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
            if self._var_key(variable) in {self._var_key(own) for own in own_rate.variables}:
                share = tf.where(self.iterations < own_rate.frozen_steps, 0.0, own_rate.share)
                learning_rate = tf.cast(learning_rate, tf.float32) * share
            super().update_step(gradient, variable, learning_rate)

    return WithOwnRate
