"""The attacks by name, and mixes of them for a verdict."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from saat_tf.attacks.attack import Attack, Encoder
from saat_tf.attacks.diverse_input import DiverseInput
from saat_tf.attacks.hag import hag_attack
from saat_tf.attacks.mainstay import (
    NUM_STEPS,
    STEP_SIZE,
    anchor_attack,
    auto_attack,
    center_attack,
    mainstay_attack,
    prototype_attack,
)
from saat_tf.attacks.pros_gan import ProSGAN
from saat_tf.attacks.pta import NUM_STEPS as PTA_STEPS
from saat_tf.attacks.pta import pta_attack
from saat_tf.attacks.rules import AdamStep, MomentumStep, SignStep
from saat_tf.attacks.sdha import sdha_attack
from saat_tf.attacks.square import square_attack
from saat_tf.images import checked_images
from saat_tf.layers import DMFL, CodeBank
from saat_tf.threat_model import ThreatModel


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """Knowledge of the attacker beside the encoder: the codes of the very encoder under attack, with labels.

    Args:
        train: codes and labels of the training set.
        database: codes and labels of the database.
        prototype_codes: for "tha", labels (B, C) -> float32 (B, K) of -1/+1; None where no network has been fitted.
        pros_gan: for "pros-gan", trained on this encoder; None where none has been.
    """

    train: CodeBank
    database: CodeBank
    prototype_codes: Callable[[tf.Tensor], tf.Tensor] | None = None
    pros_gan: ProSGAN | None = None


Build = Callable[[ThreatModel, Knowledge, int], Attack]


def _mainstay(name: str, **parts: Any) -> Build:
    def build(ball: ThreatModel, known: Knowledge, steps: int) -> Attack:
        attack = mainstay_attack(ball, known.train, num_steps=steps, **parts)
        return dataclasses.replace(attack, name=name)

    return build


def _tha(ball: ThreatModel, known: Knowledge, steps: int) -> Attack:
    if known.prototype_codes is None:
        raise ValueError(
            "The attack 'tha' needs a prototype network, and there is none. Fit one on the training codes and labels "
            "and pass its codes as `Knowledge.prototype_codes`."
        )
    return prototype_attack(ball, known.prototype_codes, num_steps=steps)


@dataclasses.dataclass(frozen=True)
class GeneratorAttack:
    """A trained `ProSGAN` with the face of an attack: targeted, one forward pass an image.

    Args:
        gan: the trained one; its generator decides where the images go, whatever the encoder.
        name: for reports.
    """

    gan: ProSGAN
    name: str = "pros-gan"
    targeted: bool = True

    @property
    def threat_model(self) -> ThreatModel:
        """The ball that the generator was trained for."""
        return self.gan.threat_model

    def __call__(self, encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return adversarial images (B, S, S, 3)."""
        images = checked_images(images)
        return self.gan.attack(encoder, images, labels, seed) if images.shape[0] != 0 else images


def _pros_gan(ball: ThreatModel, known: Knowledge, steps: int) -> Attack:
    if known.pros_gan is None or known.pros_gan.threat_model != ball:
        raise ValueError(
            "The attack 'pros-gan' needs a generator that was trained for its ball. Received: "
            f"{known.pros_gan and known.pros_gan.threat_model} for {ball}. Train a `ProSGAN` on the encoder, pass it "
            "as `Knowledge.pros_gan`."
        )
    return GeneratorAttack(known.pros_gan)


ATTACKS: dict[str, Build] = {
    "hag": lambda ball, known, steps: hag_attack(ball, num_steps=steps),
    "sdha": lambda ball, known, steps: sdha_attack(ball, known.train, num_steps=steps),
    "mainstay": _mainstay("mainstay"),
    "mainstay-plain": _mainstay("mainstay-plain", objective="plain"),
    "auto": lambda ball, known, steps: auto_attack(ball, known.train, num_steps=steps),
    "center": lambda ball, known, steps: center_attack(ball, known.train, num_steps=steps),
    "pta": lambda ball, known, steps: pta_attack(ball, known.database, num_steps=steps),
    "mainstay-mi": _mainstay("mainstay-mi", rule=MomentumStep(STEP_SIZE)),
    "mainstay-ni": _mainstay("mainstay-ni", rule=MomentumStep(STEP_SIZE, look_ahead=True)),
    "mainstay-si-ni": _mainstay("mainstay-si-ni", rule=MomentumStep(STEP_SIZE, look_ahead=True, num_scales=5)),
    "mainstay-vmi": _mainstay("mainstay-vmi", rule=MomentumStep(STEP_SIZE, num_neighbors=5)),
    "mainstay-di": _mainstay("mainstay-di", rule=DiverseInput(SignStep(STEP_SIZE))),
    "mainstay-adam": _mainstay("mainstay-adam", rule=AdamStep()),
    "square": lambda ball, known, steps: square_attack(ball, DMFL(known.train), num_queries=10 * steps),
    "p2p": lambda ball, known, steps: anchor_attack(ball, known.database, num_voters=1, num_steps=steps),
    "dhta": lambda ball, known, steps: anchor_attack(ball, known.database, num_steps=steps),
    "tha": _tha,
    "pros-gan": _pros_gan,
    "mainstay-targeted": _mainstay("mainstay-targeted", targeted=True),
    "auto-targeted": lambda ball, known, steps: auto_attack(ball, known.train, targeted=True, num_steps=steps),
}

# The mixes, strongest attack first. "standard" costs 3 gradient steps and 10 plain queries for each step asked for.
SUITES: dict[str, tuple[str, ...]] = {"standard": ("auto", "mainstay", "center", "square")}


def published_steps(name: str) -> int:
    """Return the number of steps of the attack of that name in the paper's tables: 20 for PTA, 100 for the others."""
    return PTA_STEPS if name == "pta" else NUM_STEPS


def build_attack(name: str, threat_model: ThreatModel, knowledge: Knowledge, *, num_steps: int | None = None) -> Attack:
    """Build the attack of that name.

    Args:
        name: a key of `ATTACKS`.
        threat_model: the ball.
        knowledge: what the attacker knows of the encoder under attack.
        num_steps: steps, `published_steps(name)` by default; "square" sends ten queries for each.

    Returns:
        The attack, whose `name` is `name`.

    Raises:
        ValueError: unknown name, an option out of range, or "tha" without a prototype network.

    Example:
        >>> import numpy as np
        >>> bank = CodeBank.from_labels(np.eye(4), code_length=16)
        >>> build_attack("dhta", ThreatModel.from_255(8), Knowledge(train=bank, database=bank)).targeted
        True
    """
    if name not in ATTACKS:
        raise ValueError(f"The attack must be one of {', '.join(ATTACKS)}. Received: {name!r}.")
    return ATTACKS[name](threat_model, knowledge, published_steps(name) if num_steps is None else num_steps)


def suite(name: str, threat_model: ThreatModel, knowledge: Knowledge, *, num_steps: int = NUM_STEPS) -> list[Attack]:
    """Build the attacks of a mix, of which each query is to count at its worst.

    Args:
        name: a key of `SUITES`. "standard" spends three gradient steps and ten plain queries for each of `num_steps`.
        threat_model: the ball.
        knowledge: what the attacker knows of the encoder under attack.
        num_steps: steps of each attack.

    Raises:
        ValueError: unknown name.

    Example:
        >>> import numpy as np
        >>> bank = CodeBank.from_labels(np.eye(4), code_length=16)
        >>> [attack.name for attack in suite("standard", ThreatModel.from_255(8), Knowledge(bank, bank))]
        ['auto', 'mainstay', 'center', 'square']
    """
    if name not in SUITES:
        raise ValueError(f"The mix must be one of {', '.join(SUITES)}. Received: {name!r}.")
    return [build_attack(one, threat_model, knowledge, num_steps=num_steps) for one in SUITES[name]]
