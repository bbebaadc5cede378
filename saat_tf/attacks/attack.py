"""Interface of attacks, and the gradient attack: a goal for each image, pursued by the gradient loop."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from saat_tf.attacks.encoder import Encoder, check_encoder, relaxed_codes
from saat_tf.attacks.objectives import Goal, Objective, alignment
from saat_tf.attacks.pgd import PGD, Relax
from saat_tf.images import checked_images
from saat_tf.labels import checked_labels
from saat_tf.random_numbers import seed_of
from saat_tf.threat_model import ThreatModel


class Attack(Protocol):
    """Adversarial images from images and labels: those of the images themselves, or the target's where `targeted`."""

    @property
    def name(self) -> str:
        """For reports."""

    @property
    def targeted(self) -> bool:
        """Whether the labels are those of a target."""

    @property
    def threat_model(self) -> ThreatModel:
        """What every image that it returns obeys."""

    def __call__(self, encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: int | tf.Tensor = 0) -> tf.Tensor:
        """Return float32 (B, H, W, 3) inside the ball and [0, 1]; labels are (B, C) of 0/1, the seed one int or two."""


GoalOf = Callable[[Encoder, tf.Tensor, tf.Tensor, tf.Tensor], Goal]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientAttack:
    """Drive each image towards a goal by `PGD`, the encoder in inference mode.

    An image that ends further from its goal than it began is returned unchanged, so no attack makes its own score
    worse.

    Args:
        name: for reports.
        targeted: whether the labels that it is called with are those of a target.
        goal: (encoder, images, labels, seed) -> goal of each image.
        pgd: the loop.
        score: by which the end is compared with the beginning; larger is nearer to the goal.

    Raises:
        ValueError: when called: images that `saat_tf.images.checked_images` refuses, labels that are not 0/1 or of
            another number of rows, or an encoder that is none, has no gradient, or has another code length.
        tf.errors.InvalidArgumentError: in a graph, when it runs, for the same.

    Example:
        >>> from saat_tf.attacks.objectives import alignment
        >>> from saat_tf.attacks.rules import SignStep
        >>> pgd = PGD(threat_model=ThreatModel(0.1), objective=alignment, rule=SignStep(0.1), num_steps=1)
        >>> attack = GradientAttack(
        ...     name="brighter", targeted=False, goal=lambda encoder, images, labels, seed: tf.ones((1, 3)), pgd=pgd
        ... )
        >>> encoder = lambda images, alpha, training: tf.tanh(alpha * tf.reduce_mean(images, (1, 2)))
        >>> float(tf.reduce_min(attack(encoder, tf.zeros((1, 4, 4, 3)), tf.ones((1, 2)), tf.constant([0, 0])))) > 0.09
        True
    """

    name: str
    targeted: bool
    goal: GoalOf
    pgd: PGD
    score: Objective = alignment

    @property
    def threat_model(self) -> ThreatModel:
        """Threat model of the attack."""
        return self.pgd.threat_model

    def __call__(self, encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: int | tf.Tensor = 0) -> tf.Tensor:
        """Return adversarial images."""
        images, labels = checked_batch(encoder, images, labels)
        if images.shape[0] == 0:
            return images
        seed = seed_of(seed)
        goal = self.goal(encoder, images, labels, seed)
        adversarial_images = self.pgd(self.relax(encoder), images, goal, seed)
        return self.nearer(encoder, adversarial_images, images, goal)

    def prepare(
        self, encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, Goal]:
        """Return the checked images and the goal of each."""
        images, labels = checked_batch(encoder, images, labels)
        return images, self.goal(encoder, images, labels, seed)

    def relax(self, encoder: Encoder) -> Relax:
        """Return (images, alpha) -> relaxed codes float32 (B, K), in inference mode."""
        return lambda images, alpha: relaxed_codes(encoder, images, alpha)

    def nearer(self, encoder: Encoder, adversarial_images: tf.Tensor, images: tf.Tensor, goal: Goal) -> tf.Tensor:
        """Return of each pair of images the one that is nearer to the goal at alpha 1."""
        relax = self.relax(encoder)
        nearer = self.score(relax(adversarial_images, 1.0), goal) > self.score(relax(images, 1.0), goal)
        return tf.where(nearer[:, None, None, None], adversarial_images, images)


def checked_batch(encoder: Encoder, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Check what an attack is called with, and return images float32 (B, H, W, 3) and labels float32 (B, C).

    Raises:
        ValueError: one of them is refused by its check, or images and labels are not of one number.
    """
    check_encoder(encoder)
    images, labels = checked_images(images, getattr(encoder, "image_size", None)), checked_labels(labels)
    if not images.shape[:1].is_compatible_with(labels.shape[:1]):
        raise ValueError(
            f"Each image needs one row of labels. Received: {images.shape[0]} images and {labels.shape[0]} rows. Give "
            "labels of shape (images, classes)."
        )
    return images, labels


def code_goal(codes_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], targeted: bool) -> GoalOf:
    """Make the goal of the attacks that know one code b for a label set: b for a target's labels, else -b.

    Args:
        codes_of: (labels (B, C), seed (2,)) -> codes float32 (B, K) of -1/+1.
        targeted: whether the labels are those of a target. The one place where the two kinds differ.
    """

    def goal(encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        codes = codes_of(labels, seed)
        return codes if targeted else -codes

    return goal
