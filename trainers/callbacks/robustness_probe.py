"""A few fixed images, attacked after each epoch of adversarial training."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from saat_tf.attacks import PGD, SignStep, alignment
from saat_tf.attacks.trajectory import trajectory
from saat_tf.codes import pack_codes
from saat_tf.data import Split
from saat_tf.layers import DMFL
from saat_tf.metrics import mean_average_precision
from saat_tf.models.training_model import TrainingModel
from saat_tf.threat_model import ThreatModel

STEPS = 10
# Ten steps of a quarter of the radius reach every corner of the ball.
STEP_SHARE = 0.25
SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Result of a probe.

    Args:
        clean_map: MAP of the images, ranked against the bank.
        robust_map: MAP of their adversarial images.
        bits_flipped: float (steps + 1,), mean number of bits by which codes of clean and attacked images differ, at the
            random start and after each step.
        pictures: float32 (E, S, 3 S, 3): image, adversarial image and their difference, from -epsilon to epsilon.
    """

    clean_map: float
    robust_map: float
    bits_flipped: np.ndarray
    pictures: np.ndarray

    def logs(self) -> dict[str, float]:
        """Return what goes into the logs of an epoch."""
        return {
            "probe_clean_map": self.clean_map,
            "probe_robust_map": self.robust_map,
            "probe_bits_flipped": float(self.bits_flipped[-1]),
        }

    def by_step(self) -> dict[str, np.ndarray]:
        """Return what is known after each step of the attack, by name."""
        return {"bits_flipped": self.bits_flipped}


class Measured(Protocol):
    """What a probe has measured."""

    @property
    def pictures(self) -> np.ndarray:
        """Return float32 (E, S, 3 S, 3): images, adversarial images and their difference."""

    def logs(self) -> dict[str, float]:
        """Return what goes into the logs of an epoch."""

    def by_step(self) -> dict[str, np.ndarray]:
        """Return what is known after each step of the attack, by name."""


class Probe(Protocol):
    """What is attacked after each epoch."""

    def measure(self, training: TrainingModel) -> Measured:
        """Attack fixed images with the encoder as it is now."""


def probing_attack(threat_model: ThreatModel) -> PGD:
    """Return the attack of the probes."""
    rule = SignStep(max(STEP_SHARE * threat_model.epsilon, 1e-6))
    return PGD(threat_model=threat_model, objective=alignment, rule=rule, num_steps=STEPS)


def side_by_side(images: tf.Tensor, attacked: tf.Tensor, threat_model: ThreatModel) -> np.ndarray:
    """Return images, adversarial images and their difference, from -epsilon to epsilon: float32 (B, S, 3 S, 3)."""
    difference = 0.5 + 0.5 * (attacked - images) / max(threat_model.epsilon, 1e-6)
    return tf.concat([images, attacked, difference], axis=2).numpy()


class RobustnessProbe:
    """Attack fixed images with the codes that the bank contains, away from their mainstay codes.

    Nothing of the model changes, and nothing is drawn but from `seed`.

    Args:
        split: what the images are of.
        chosen: which of them.
        labels: uint8 (N, C), of the bank's items, which are ranked.
        threat_model: the ball.
        seed: of the random start.
    """

    def __init__(
        self, split: Split, chosen: range, labels: np.ndarray, threat_model: ThreatModel, *, seed: int
    ) -> None:
        self.images = tf.stack([split.load(i) for i in chosen])
        self.labels = np.asarray(split.labels[chosen.start : chosen.stop], np.float32)
        self.bank_labels = labels
        self.pgd = probing_attack(threat_model)
        self.seed = tf.constant([seed, 0])
        self.attack: Callable | None = None

    def measure(self, training: TrainingModel) -> Measurement:
        """Attack the images with the encoder as it is now."""
        encoder = training.encoder

        def relax(x: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
            return encoder(x, alpha=alpha, training=False)

        if self.attack is None:
            self.attack = tf.function(
                lambda goal: (
                    trajectory(self.pgd, encoder.logits, relax, self.images, goal, self.seed),
                    self.pgd(relax, self.images[:SHOWN], goal[:SHOWN], self.seed),
                )
            )
        logits, shown = self.attack(-DMFL(training.code_bank)(tf.constant(self.labels)))
        clean = encoder.encode(self.images).numpy()
        bank = pack_codes(tf.constant(training.code_bank.codes.numpy())).numpy()

        def score(codes: np.ndarray) -> float:
            return mean_average_precision(codes, bank, self.labels, self.bank_labels)

        steps = [pack_codes(codes).numpy() for codes in logits]  # each (B, K / 8)
        return Measurement(
            clean_map=score(clean),
            robust_map=score(steps[-1]),
            bits_flipped=np.array([np.bitwise_count(clean ^ codes).sum(axis=1).mean() for codes in steps]),
            pictures=side_by_side(self.images[:SHOWN], shown, self.pgd.threat_model),
        )
