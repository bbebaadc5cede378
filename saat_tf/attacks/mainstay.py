"""Attacks that drive a query away from, or towards, one code that stands for its label set."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from saat_tf.attacks.attack import GradientAttack, code_goal
from saat_tf.attacks.halving import HalvingStep
from saat_tf.attacks.objectives import Objective, adaptive_alignment, alignment, hinged_alignment
from saat_tf.attacks.pgd import PGD
from saat_tf.attacks.rules import SignStep, StepRule
from saat_tf.attacks.schedules import rising_alphas
from saat_tf.codes import sign
from saat_tf.label_codes import anchor_codes, center_codes
from saat_tf.layers import DMFL, CodeBank
from saat_tf.threat_model import ThreatModel

OBJECTIVES: dict[str, Objective] = {"plain": alignment, "adaptive": adaptive_alignment}
STEP_SIZE = 1 / 255
NUM_STEPS = 100


def code_attack(
    name: str,
    epsilon: float,
    codes_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    *,
    targeted: bool,
    rule: StepRule | None = None,
    num_steps: int = NUM_STEPS,
    objective: str = "adaptive",
) -> GradientAttack:
    """Compose an attack on a code for each label set: from a random start, with a rising alpha.

    Args:
        name: for reports.
        epsilon: radius of the ball in pixel units of [0, 1]; 8/255 in the paper.
        codes_of: (labels (B, C), seed (2,)) -> codes float32 (B, K) of -1/+1.
        targeted: drive codes towards those of the labels given (a target's), or away from them (the query's own).
        rule: how it moves; sign steps of 1/255, as in the paper, by default.
        num_steps: 100 in the paper.
        objective: "adaptive" (the authors' code, stronger) or "plain" (the paper's text).

    Raises:
        ValueError: unknown objective.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"`objective` must be one of {', '.join(OBJECTIVES)}. Received: {objective!r}.")
    pgd = PGD(
        threat_model=ThreatModel(epsilon),
        objective=OBJECTIVES[objective],
        rule=rule or SignStep(STEP_SIZE),
        num_steps=num_steps,
        schedule=rising_alphas,
    )
    return GradientAttack(name=name, targeted=targeted, goal=code_goal(codes_of, targeted), pgd=pgd)


def mainstay_attack(
    epsilon: float,
    code_bank: CodeBank,
    *,
    targeted: bool = False,
    rule: StepRule | None = None,
    num_steps: int = NUM_STEPS,
    objective: str = "adaptive",
) -> GradientAttack:
    """Compose the attack of the SAAT paper's tables: on the mainstay codes of `code_bank`.

    Args:
        epsilon: radius of the ball in pixel units of [0, 1]; 8/255 in the paper.
        code_bank: codes of the training set under the encoder to attack, and its labels.
        targeted: see `code_attack`, as for the rest.
        rule: see there.
        num_steps: see there.
        objective: see there.

    Raises:
        ValueError: unknown objective.

    Example:
        >>> import numpy as np
        >>> mainstay_attack(8 / 255, CodeBank.from_labels(np.eye(4), code_length=16)).name
        'mainstay'

    References:
        arXiv 2310.14637, section on semantic-aware attack, and the authors' code.
    """
    dmfl = DMFL(code_bank)

    def codes_of(labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        code_bank.check_classes(labels)
        return dmfl(labels)

    return code_attack(
        "mainstay" + ("-targeted" if targeted else ""),
        epsilon,
        codes_of,
        targeted=targeted,
        rule=rule,
        num_steps=num_steps,
        objective=objective,
    )


def center_attack(
    epsilon: float, code_bank: CodeBank, *, targeted: bool = False, num_steps: int = NUM_STEPS
) -> GradientAttack:
    """Compose CgAT's attack: on the center codes of `code_bank`, with the adaptive objective.

    Example:
        >>> import numpy as np
        >>> center_attack(8 / 255, CodeBank.from_labels(np.eye(4), code_length=16)).targeted
        False

    References:
        Wang et al., "CgAT: Center-Guided Adversarial Training for Deep Hashing-Based Retrieval", WWW 2023.
    """

    def codes_of(labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        code_bank.check_classes(labels)
        return center_codes(labels, code_bank.label_sets, code_bank.code_sums(), code_bank.counts())

    return code_attack("center", epsilon, codes_of, targeted=targeted, num_steps=num_steps)


def auto_attack(
    epsilon: float, code_bank: CodeBank, *, targeted: bool = False, num_steps: int = NUM_STEPS
) -> GradientAttack:
    """Compose the strongest single attack found here: on the mainstay codes, with steps that adapt.

    Sign steps that start at 2 epsilon and halve where the hinged objective stalls, alpha 1 throughout; the best images
    met are returned.

    Args:
        epsilon: radius of the ball in pixel units of [0, 1].
        code_bank: codes of the training set under the encoder to attack, and its labels.
        targeted: see `code_attack`.
        num_steps: 100 or more; what is halved when depends on it.

    Example:
        >>> import numpy as np
        >>> auto_attack(8 / 255, CodeBank.from_labels(np.eye(4), code_length=16)).name
        'auto'

    References:
        `HalvingStep` for the step rule; the composition is our own.
    """
    pgd = PGD(threat_model=ThreatModel(epsilon), objective=hinged_alignment, rule=HalvingStep(), num_steps=num_steps)
    composed = mainstay_attack(epsilon, code_bank, targeted=targeted)
    return dataclasses.replace(composed, name="auto" + ("-targeted" if targeted else ""), pgd=pgd)


def anchor_attack(
    epsilon: float, code_bank: CodeBank, *, num_voters: int = 9, num_steps: int = NUM_STEPS
) -> GradientAttack:
    """Compose DHTA (nine voters) or P2P (one): targeted, towards the vote of items that carry the target's labels.

    Args:
        epsilon: radius of the ball in pixel units of [0, 1]; 8/255 in the SAAT authors' comparison, 0.032 in the
            paper.
        code_bank: codes of the database under the encoder to attack, and its labels.
        num_voters: items whose codes are summed, drawn by the seed of the call.
        num_steps: 100 in the SAAT authors' comparison.

    Example:
        >>> import numpy as np
        >>> bank = CodeBank.from_labels(np.eye(4), code_length=16)
        >>> anchor_attack(8 / 255, bank, num_voters=1).name
        'p2p'

    References:
        Bai et al., "Targeted Attack for Deep Hashing based Retrieval", ECCV 2020, for both.
    """

    def codes_of(labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        code_bank.check_classes(labels)
        item_labels = tf.gather(code_bank.label_sets, code_bank.set_index)
        return anchor_codes(labels, item_labels, sign(code_bank.codes), num_voters, seed)

    return code_attack(
        "p2p" if num_voters == 1 else "dhta",
        epsilon,
        codes_of,
        targeted=True,
        num_steps=num_steps,
        objective="plain",
    )


def prototype_attack(
    epsilon: float,
    prototype_codes: Callable[[tf.Tensor], tf.Tensor],
    *,
    num_steps: int = NUM_STEPS,
) -> GradientAttack:
    """Compose THA: targeted, towards the code that a trained prototype network gives the target's labels.

    Args:
        epsilon: radius of the ball in pixel units of [0, 1]; 8/255.
        prototype_codes: labels (B, C) -> float32 (B, K) of -1/+1.
        num_steps: 100 in the SAAT authors' comparison.

    Example:
        >>> prototype_attack(8 / 255, lambda labels: tf.ones((len(labels), 16))).name
        'tha'

    References:
        Wang et al., "Targeted Attack and Defense for Deep Hashing", SIGIR 2021.
    """
    return code_attack(
        "tha",
        epsilon,
        lambda labels, seed: prototype_codes(labels),
        targeted=True,
        num_steps=num_steps,
        objective="plain",
    )
