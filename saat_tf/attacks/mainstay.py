"""The mainstay attack of SAAT."""

from saat_tf.attacks.objectives import Objective, adaptive_alignment, alignment
from saat_tf.attacks.pgd import PGD
from saat_tf.attacks.schedules import rising_alphas
from saat_tf.threat_model import ThreatModel

OBJECTIVES: dict[str, Objective] = {"plain": alignment, "adaptive": adaptive_alignment}


def mainstay_attack(
    threat_model: ThreatModel, *, step_size: float = 1 / 255, num_steps: int = 100, objective: str = "adaptive"
) -> PGD:
    """Compose the attack of the paper's tables: PGD from a random start with a rising alpha.

    Non-targeted, give it minus the mainstay codes of the queries' labels; targeted, the mainstay codes of the target
    labels.

    Args:
        threat_model: 8/255 in the paper.
        step_size: pixel units of [0, 1]; 1/255 in the paper.
        num_steps: 100 in the paper.
        objective: "adaptive" (the authors' code, stronger) or "plain" (the paper's text).

    Raises:
        ValueError: unknown objective.

    Example:
        >>> mainstay_attack(ThreatModel.from_255(8)).num_steps
        100

    References:
        arXiv 2310.14637, section on semantic-aware attack, and the authors' code.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"`objective` must be one of {', '.join(OBJECTIVES)}. Received: {objective!r}.")
    return PGD(threat_model, OBJECTIVES[objective], step_size, num_steps, rising_alphas)
