"""The attacks by name, and mixes of them for a verdict."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from saat_tf.attacks.attack import Attack, checked_batch
from saat_tf.attacks.diverse_input import DiverseInput
from saat_tf.attacks.encoder import Encoder
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


Build = Callable[[float, Knowledge, int], Attack]


@dataclasses.dataclass(frozen=True)
class NamedAttack:
    """Attack that a name stands for.

    Args:
        about: one line for people who choose.
        build: (epsilon, knowledge, number of steps) -> the attack, whatever it calls itself.
        num_steps: those of the paper's tables.
    """

    about: str
    build: Build
    num_steps: int = NUM_STEPS


def _mainstay(about: str, **parts: Any) -> NamedAttack:
    return NamedAttack(
        about, lambda epsilon, known, steps: mainstay_attack(epsilon, known.train, num_steps=steps, **parts)
    )


def _tha(epsilon: float, known: Knowledge, steps: int) -> Attack:
    if known.prototype_codes is None:
        raise ValueError(
            "The attack 'tha' needs a prototype network, and there is none. Fit one on the training codes and labels "
            "and pass its codes as `Knowledge.prototype_codes`."
        )
    return prototype_attack(epsilon, known.prototype_codes, num_steps=steps)


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

    def __call__(self, encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: int | tf.Tensor = 0) -> tf.Tensor:
        """Return adversarial images (B, H, W, 3)."""
        images, labels = checked_batch(encoder, images, labels)
        return self.gan.attack(encoder, images, labels, seed) if images.shape[0] != 0 else images


def _pros_gan(epsilon: float, known: Knowledge, steps: int) -> Attack:
    if known.pros_gan is None or known.pros_gan.threat_model != ThreatModel(epsilon):
        raise ValueError(
            "The attack 'pros-gan' needs a generator that was trained for its ball. Received: "
            f"{known.pros_gan and known.pros_gan.threat_model} for {ThreatModel(epsilon)}. Train a `ProSGAN` on the "
            "encoder, pass it as `Knowledge.pros_gan`."
        )
    return GeneratorAttack(known.pros_gan)


ATTACKS: dict[str, NamedAttack] = {
    "hag": NamedAttack(
        "away from the query's own code, without labels",
        lambda epsilon, known, steps: hag_attack(epsilon, num_steps=steps),
    ),
    "sdha": NamedAttack(
        "away from all relevant training items, the nearest ones hardest",
        lambda epsilon, known, steps: sdha_attack(epsilon, known.train, num_steps=steps),
    ),
    "mainstay": _mainstay("away from the mainstay code, the attack of SAAT's tables"),
    "mainstay-plain": _mainstay("the same by the objective of the paper's text", objective="plain"),
    "auto": NamedAttack(
        "away from the mainstay code by steps that adapt, the strongest one here",
        lambda epsilon, known, steps: auto_attack(epsilon, known.train, num_steps=steps),
    ),
    "center": NamedAttack(
        "away from CgAT's center code",
        lambda epsilon, known, steps: center_attack(epsilon, known.train, num_steps=steps),
    ),
    "pta": NamedAttack(
        "lowers a smooth average precision over the nearest database items",
        lambda epsilon, known, steps: pta_attack(epsilon, known.database, num_steps=steps),
        PTA_STEPS,
    ),
    "mainstay-mi": _mainstay("mainstay by momentum (MI-FGSM)", rule=MomentumStep(STEP_SIZE)),
    "mainstay-ni": _mainstay(
        "mainstay by Nesterov's momentum (NI-FGSM)", rule=MomentumStep(STEP_SIZE, look_ahead=True)
    ),
    "mainstay-si-ni": _mainstay(
        "the same over scaled copies (SI-NI-FGSM)", rule=MomentumStep(STEP_SIZE, look_ahead=True, num_scales=5)
    ),
    "mainstay-vmi": _mainstay(
        "mainstay by momentum, its variance tuned by neighbors (VMI-FGSM)",
        rule=MomentumStep(STEP_SIZE, num_neighbors=5),
    ),
    "mainstay-di": _mainstay(
        "mainstay over images resized at random (DI-FGSM)", rule=DiverseInput(SignStep(STEP_SIZE))
    ),
    "mainstay-adam": _mainstay("mainstay by Adam on the pixels", rule=AdamStep()),
    "square": NamedAttack(
        "black box: random squares, sees hash codes alone, ten queries for each step",
        lambda epsilon, known, steps: square_attack(epsilon, DMFL(known.train), num_queries=10 * steps),
    ),
    "p2p": NamedAttack(
        "targeted: towards the code of one item with the target's labels",
        lambda epsilon, known, steps: anchor_attack(epsilon, known.database, num_voters=1, num_steps=steps),
    ),
    "dhta": NamedAttack(
        "targeted: towards the vote of nine items with the target's labels",
        lambda epsilon, known, steps: anchor_attack(epsilon, known.database, num_steps=steps),
    ),
    "tha": NamedAttack("targeted: towards the code of a prototype network, which is trained first", _tha),
    "pros-gan": NamedAttack("targeted: one pass of a generator, which is trained first", _pros_gan),
    "mainstay-targeted": _mainstay("targeted: towards the mainstay code of the target's labels", targeted=True),
    "auto-targeted": NamedAttack(
        "the same by steps that adapt",
        lambda epsilon, known, steps: auto_attack(epsilon, known.train, targeted=True, num_steps=steps),
    ),
}

# The mixes, strongest attack first. "standard" costs 3 gradient steps and 10 plain queries for each step asked for.
SUITES: dict[str, tuple[str, ...]] = {"standard": ("auto", "mainstay", "center", "square")}


def published_steps(name: str) -> int:
    """Return the number of steps of the attack of that name in the paper's tables: 20 for PTA, 100 for the others."""
    return ATTACKS[name].num_steps


def build_attack(name: str, epsilon: float, knowledge: Knowledge, *, num_steps: int | None = None) -> Attack:
    """Build the attack of that name.

    Args:
        name: a key of `ATTACKS`.
        epsilon: radius of the ball in pixel units of [0, 1].
        knowledge: what the attacker knows of the encoder under attack.
        num_steps: steps, `published_steps(name)` by default; "square" sends ten queries for each.

    Returns:
        The attack, whose `name` is `name`.

    Raises:
        ValueError: unknown name, an option out of range, or "tha" without a prototype network.

    Example:
        >>> import numpy as np
        >>> bank = CodeBank.from_labels(np.eye(4), code_length=16)
        >>> build_attack("dhta", 8 / 255, Knowledge(train=bank, database=bank)).targeted
        True
    """
    if name not in ATTACKS:
        raise ValueError(f"The attack must be one of {', '.join(ATTACKS)}. Received: {name!r}.")
    named = ATTACKS[name]
    attack = named.build(epsilon, knowledge, named.num_steps if num_steps is None else num_steps)
    return dataclasses.replace(attack, name=name)  # type: ignore[type-var]  # each is a dataclass


def attack_names(chosen: Sequence[str]) -> list[str]:
    """Replace the names of mixes by those of their attacks, each once.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> attack_names(["standard", "hag", "auto"])
        ['auto', 'mainstay', 'center', 'square', 'hag']
    """
    unknown = [name for name in chosen if name not in ATTACKS and name not in SUITES]
    if unknown:
        raise ValueError(
            f"The attack must be one of {', '.join([*SUITES, *ATTACKS])}. Received: {', '.join(map(repr, unknown))}."
        )
    return list(dict.fromkeys(name for choice in chosen for name in SUITES.get(choice, (choice,))))


def suite(name: str, epsilon: float, knowledge: Knowledge, *, num_steps: int = NUM_STEPS) -> list[Attack]:
    """Build the attacks of a mix, of which each query is to count at its worst.

    Args:
        name: a key of `SUITES`. "standard" spends three gradient steps and ten plain queries for each of `num_steps`.
        epsilon: radius of the ball in pixel units of [0, 1].
        knowledge: what the attacker knows of the encoder under attack.
        num_steps: steps of each attack.

    Raises:
        ValueError: unknown name.

    Example:
        >>> import numpy as np
        >>> bank = CodeBank.from_labels(np.eye(4), code_length=16)
        >>> [attack.name for attack in suite("standard", 8 / 255, Knowledge(bank, bank))]
        ['auto', 'mainstay', 'center', 'square']
    """
    if name not in SUITES:
        raise ValueError(f"The mix must be one of {', '.join(SUITES)}. Received: {name!r}.")
    return [build_attack(one, epsilon, knowledge, num_steps=num_steps) for one in SUITES[name]]
