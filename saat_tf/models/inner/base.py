"""Base class of the inner attacks, which make the adversarial images of a training step."""

import dataclasses

import tensorflow as tf

from saat_tf.models.image_model import ImageModel
from saat_tf.threat_model import ThreatModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnerStep:
    """Training step as an inner attack sees it: the step that it perturbs images for.

    Args:
        encoder: the model in training.
        training: whether images are perturbed with dropout and batch statistics as in a training step.
        threat_model: ball and pixel range.
        seed: int (2,), of everything random in the step.
        index: int (B,), which training images the batch contains; None where they are not known.
    """

    encoder: ImageModel
    training: bool
    threat_model: ThreatModel
    seed: tf.Tensor
    index: tf.Tensor | None = None

    def relax(self, images: tf.Tensor, alpha: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Return the relaxed codes (B, K) of images (B, S, S, 3)."""
        return self.encoder(images, alpha=alpha, training=self.training)


class InnerAttack:
    """Base of the inner attacks, one a file; `AdversarialTraining.perturb` calls them alike.

    One that keeps something from step to step is a Keras layer too, so that what it keeps is saved with the model.
    `passes` says how often it goes forward through the whole network and back to the pixels in a step, beside the
    step's own pass, and `replays` how often each batch has to be fed for it.
    """

    replays = 1
    # Whether it keeps something of each image, and so has to know which image is which.
    needs_index = False
    # Whether update_from_training is to be told the pixel slopes of the step's own loss.
    uses_training_gradients = False

    @property
    def passes(self) -> int:
        """Passes through the whole network and back to the pixels."""
        raise NotImplementedError(f"{type(self).__name__} must say its `passes`.")

    def perturb(self, step: InnerStep, images: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
        """Return adversarial images (B, S, S, 3) in [0, 1] whose codes near `wanted_codes` (B, K) of -1/+1."""
        raise NotImplementedError(f"{type(self).__name__} must implement `perturb`.")

    def update_from_training(self, slopes: tf.Tensor, threat_model: ThreatModel) -> None:
        """Learn from the slopes (B, S, S, 3) that the step's loss has at the perturbed images."""
        raise NotImplementedError(f"{type(self).__name__} must implement update_from_training.")
