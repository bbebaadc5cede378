"""Few passes through the network, between which pixels move by the first layer alone."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from saat_tf.attacks import PGD, alignment
from saat_tf.attacks.rules import State, StepRule, View
from saat_tf.models.image_model import ImageModel
from saat_tf.models.inner.base import InnerAttack, InnerStep
from saat_tf.models.inner.first_layer import split_after_first_layer


@keras.saving.register_keras_serializable(package="saat_tf")
@dataclasses.dataclass(frozen=True, kw_only=True)
class YOPO(InnerAttack):
    """YOPO-m-n: m passes through the network, after each n steps through its first layer f_0 alone.

        p = dJ/df_0 at f_0(x_t);   n times:  x <- project( x + step_size sign( (df_0/dx)^T p ) )

    where J = mean_k h_k t_k. While pixels move, the slope p of the first layer's output is frozen, so a step costs a
    convolution. The first layer is the backbone's first one with weights and the batch norm and activation behind it:
    without the activation it would be linear, and n steps no more than one that is n times as long.

    Args:
        num_passes: m, at least 1.
        num_steps: n, at least 1.
        step_size: float in (0, 1], pixel units of [0, 1]; 2/255 in the authors' code for a radius of 8/255.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> YOPO(step_size=2 / 255).passes
        2

    References:
        Zhang et al., "You Only Propagate Once: Accelerating Adversarial Training via Maximal Principle", NeurIPS 2019.

    Differs from the authors' code: weights learn from the last images alone, by the losses of the defense; theirs learn
    from all m passes.
    """

    num_passes: int = 2
    num_steps: int = 5
    step_size: float

    def __post_init__(self) -> None:
        if min(self.num_passes, self.num_steps) < 1 or not 0 < self.step_size <= 1:
            raise ValueError(
                "`num_passes` and `num_steps` must be at least 1, `step_size` in (0, 1]. Received: "
                f"{self.num_passes}, {self.num_steps}, {self.step_size}."
            )

    @property
    def passes(self) -> int:
        """Passes to the first layer's output."""
        return self.num_passes

    def perturb(self, step: InnerStep, images: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
        """Return adversarial images inside the ball."""
        encoder: ImageModel = step.encoder
        first, rest = split_after_first_layer(encoder, training=step.training)
        rule = FirstLayerSteps(first, self.num_steps, self.step_size)
        loop = PGD(threat_model=step.threat_model, objective=alignment, rule=rule, num_steps=self.num_passes)
        return loop(rest, images, wanted_codes, step.seed)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "YOPO":
        """Make it from `get_config`."""
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class FirstLayerSteps(StepRule):
    """Step in a loop whose network begins behind the first layer: one slope of its output, several steps of pixels."""

    first: Callable[[tf.Tensor], tf.Tensor]
    num_steps: int
    step_size: float

    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Return the next images and the empty state."""
        _, slopes = view.gain_and_gradient(tf.cast(self.first(images), tf.float32))
        for _ in range(self.num_steps):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                features = tf.cast(self.first(images), tf.float32)
            pixel_slopes = tape.gradient(features, images, output_gradients=slopes)
            images = view.project(images + self.step_size * tf.sign(pixel_slopes))
        return images, state
