"""Base of the training models that perturb images in each step and learn from them, whatever they learn."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from saat_tf.models.image_model import ImageModel
from saat_tf.models.inner import InnerAttack, InnerStep, Steps
from saat_tf.models.training_model import TrainingModel
from saat_tf.threat_model import ThreatModel

INNER_TRAINING = ("training", "inference")
# The attack of `evaluate`, whatever the inner attack: that of SAAT's code, its step as a share of the radius.
TEST_STEPS, TEST_STEP_SHARE, SMALLEST_STEP = 7, 0.25, 1e-6


class AdversarialStep(TrainingModel):
    """Base of the adversarial training models: `perturb` is the inner attack, `learn` the step of the optimizer.

    Args:
        encoder: the model to train.
        *parts: what else the model is trained with.
        inner: the inner attack: one of `saat_tf.models.inner`.
        epsilon: radius of the ball in pixel units of [0, 1].
        inner_training: "training" perturbs x' with dropout and batch statistics as in a training step; "inference"
            perturbs it against the model that will be attacked.
        seed: seed of the random starts.

    Raises:
        ValueError: a number out of its range, or an unknown `inner_training`.
    """

    def __init__(
        self,
        encoder: ImageModel,
        *parts: object,
        inner: InnerAttack,
        epsilon: float = 8 / 255,
        inner_training: str = "training",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, *parts, **kwargs)
        if inner_training not in INNER_TRAINING:
            raise ValueError(f"`inner_training` must be one of {INNER_TRAINING}. Received: {inner_training!r}.")
        self.threat_model = ThreatModel(epsilon)
        self.inner = inner
        self.inner_training = inner_training
        self.seed = seed

    def perturb(self, images: tf.Tensor, wanted_codes: tf.Tensor, index: tf.Tensor | None = None) -> tf.Tensor:
        """Return adversarial images (B, S, S, 3) that raise mean_k h_k t_k, h = encoder(x), t = `wanted_codes` (B, K).

        `index` (B,) says which training images they are, for an inner attack that keeps something of each.
        Whatever the forward passes in training mode change (batch statistics, dropout seeds) is put back.
        """
        training = self.inner_training == "training"
        before = values_of(self.encoder.non_trainable_variables)
        step = InnerStep(
            encoder=self.encoder,
            training=training,
            threat_model=self.threat_model,
            seed=self.step_seed(),
            index=index,
        )
        adversarial_images = self.inner.perturb(step, images, wanted_codes)
        if training:
            with tf.control_dependencies([adversarial_images]):
                assign(self.encoder.non_trainable_variables, before)
        return adversarial_images

    def perturb_to_test(self, images: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
        """Return adversarial images that raise mean_k h_k t_k as `perturb` does, against the model in inference mode.

        By seven steps of a quarter of the radius, so that losses compare whatever the inner attack. The random starts
        depend on the seed alone.
        """
        attack = Steps(num_steps=TEST_STEPS, step_size=max(TEST_STEP_SHARE * self.threat_model.epsilon, SMALLEST_STEP))
        seed = tf.constant([self.seed, 0], tf.int64)
        step = InnerStep(encoder=self.encoder, training=False, threat_model=self.threat_model, seed=seed)
        return attack.perturb(step, images, wanted_codes)

    def learn(self, tape: tf.GradientTape, loss: tf.Tensor, images: tf.Tensor, adversarial_images: tf.Tensor) -> None:
        """Do the step of the optimizer for the `loss` over `images`; the tape must have watched the perturbed ones."""
        if self.inner.uses_training_gradients:
            (slopes,) = self.descend(tape, loss, images, adversarial_images)
            self.inner.update_from_training(slopes, self.threat_model)
        else:
            self.descend(tape, loss, images)

    def step_seed(self) -> tf.Tensor:
        """Return the seed of everything random in this step: int64 (2,)."""
        return tf.stack([tf.cast(self.seed, tf.int64), tf.cast(self.optimizer.iterations, tf.int64)])

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "epsilon": self.threat_model.epsilon,
            "inner": keras.saving.serialize_keras_object(self.inner),
            "inner_training": self.inner_training,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict) -> "AdversarialStep":
        """Rebuild the model with its parts."""
        inner = {"inner": keras.saving.deserialize_keras_object(config["inner"])} if "inner" in config else {}
        return super().from_config({**config, **inner})


def values_of(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    """Return a copy of each value."""
    return [tf.identity(variable) for variable in variables]


def assign(variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    """Set each variable to its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
