"""A few fixed images, attacked after each epoch of the adversarial training of a classifier."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from saat_tf.attacks.trajectory import trajectory
from saat_tf.data.class_split import ClassSplit
from saat_tf.models.training_model import TrainingModel
from saat_tf.threat_model import ThreatModel
from trainers.callbacks.robustness_probe import SHOWN, probing_attack, side_by_side


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """What an `AccuracyProbe` found.

    Args:
        clean: accuracy on the images.
        robust: accuracy on their adversarial images.
        changed: float (steps + 1,), share of the images whose predicted class the attack has changed, at the random
            start and after each step.
        pictures: float32 (E, S, 3 S, 3): image, adversarial image and their difference, from -epsilon to epsilon.
    """

    clean: float
    robust: float
    changed: np.ndarray
    pictures: np.ndarray

    def logs(self) -> dict[str, float]:
        """Return what goes into the logs of an epoch."""
        return {
            "probe_clean_accuracy": self.clean,
            "probe_robust_accuracy": self.robust,
            "probe_predictions_changed": float(self.changed[-1]),
        }

    def by_step(self) -> dict[str, np.ndarray]:
        """Return what is known after each step of the attack, by name."""
        return {"predictions_changed": self.changed}


class AccuracyProbe:
    """Attack fixed images up the cross-entropy of a classifier.

    Nothing of the model changes, and nothing is drawn but from `seed`.

    Args:
        split: what the images are of.
        chosen: which of them.
        threat_model: the ball.
        seed: of the random start.
    """

    def __init__(self, split: ClassSplit, chosen: Sequence[int], threat_model: ThreatModel, *, seed: int) -> None:
        self.images = tf.stack([split.load(i) for i in chosen])
        self.classes = np.asarray(split.labels)[list(chosen)]
        self.pgd = probing_attack(threat_model)
        self.seed = tf.constant([seed, 0])
        self.attack: Callable | None = None

    def measure(self, training: TrainingModel) -> Accuracies:
        """Attack the images with the classifier as it is now."""
        classifier = training.encoder

        def relax(x: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
            return classifier(x, alpha=alpha, training=False)

        def predict(x: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.argmax(classifier(x), axis=1), tf.float32)

        if self.attack is None:
            goal = -tf.one_hot(self.classes, classifier.num_classes)
            self.attack = tf.function(
                lambda: (
                    predict(self.images),
                    trajectory(self.pgd, predict, relax, self.images, goal, self.seed),
                    self.pgd(relax, self.images[:SHOWN], goal[:SHOWN], self.seed),
                )
            )
        clean, attacked, shown = (found.numpy() for found in self.attack())
        return Accuracies(
            clean=float(np.mean(clean == self.classes)),
            robust=float(np.mean(attacked[-1] == self.classes)),
            changed=np.mean(attacked != clean, axis=1),
            pictures=side_by_side(self.images[:SHOWN], shown, self.pgd.threat_model),
        )
