"""Trajectory of a gradient attack: the codes and the objective at each step."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from saat_tf.attacks.objectives import Goal
from saat_tf.attacks.pgd import PGD, Relax
from saat_tf.attacks.rules import State, StepRule, View

Measure = Callable[[tf.Tensor], tf.Tensor]


def trajectory(pgd: PGD, measure: Measure, relax: Relax, images: tf.Tensor, goal: Goal, seed: tf.Tensor) -> tf.Tensor:
    """Run `pgd`, and return what `measure` says of the images before each step and after the last.

    Args:
        pgd: the attack.
        measure: images (B, H, W, 3) -> float32 (B, ...).
        relax: as `PGD` takes it, like the rest.
        images: float32 (B, H, W, 3), B known.
        goal: what the objective reads.
        seed: int (2,).

    Returns:
        float32 (steps + 1, B, ...). The first is that of the start, which is random where the attack's is.
    """
    return dataclasses.replace(pgd, rule=_Recorded(pgd.rule, measure, pgd.num_steps))(relax, images, goal, seed)


@dataclasses.dataclass(frozen=True)
class _Recorded(StepRule):
    """Step as `rule` does, and return what was seen along the way in place of images."""

    rule: StepRule
    measure: Measure
    num_steps: int

    def start(self, images: tf.Tensor) -> State:
        shape = tf.TensorShape([self.num_steps]).concatenate(self.measure(images).shape)
        return {"rule": self.rule.start(images), "seen": tf.zeros(shape)}

    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        seen = tf.tensor_scatter_nd_update(state["seen"], [[t]], self.measure(images)[None])
        images, inner = self.rule.step(view, images, state["rule"], t)
        return images, {"rule": inner, "seen": seen}

    def finish(self, images: tf.Tensor, state: State) -> tf.Tensor:
        last = self.measure(self.rule.finish(images, state["rule"]))
        return tf.concat([state["seen"], last[None]], axis=0)
