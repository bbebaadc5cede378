"""How adversarial training crafts the images that it learns from."""

import dataclasses
from typing import Literal, Protocol

from saat_tf.models.inner import NFGSM, InnerAttack, Steps, half_radius
from saat_tf.threat_model import ThreatModel, from_255

InnerName = Literal["pgd", "pgd-2", "pgd-3", "n-fgsm"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnerOptions:
    """The option of the inner attack."""

    inner: InnerName = "pgd"
    """How training crafts its adversarial images; evaluation is the same for all. A pass is one through the network and
    back to the pixels, and costs about a third of what a step of training costs without any.

    pgd: --num-steps passes, with steps of --step-255, from a random point of the ball: the published one;
    pgd-2, pgd-3: two or three passes, with steps of half of --epsilon-255;
    n-fgsm: one pass and one step of --epsilon-255, from noise of twice that, not projected back into the ball.

    Fewer passes can lead to collapse: see --on-collapse."""


class Options(Protocol):
    """As much of a recipe as the inner attack depends on."""

    inner: InnerName
    epsilon_255: float
    step_255: float
    num_steps: int


def build_inner(recipe: Options) -> InnerAttack:
    """Build the inner attack that a recipe names."""
    half = half_radius(ThreatModel.from_255(recipe.epsilon_255))
    build = {
        "pgd": lambda: Steps(num_steps=recipe.num_steps, step_size=from_255(recipe.step_255)),
        "pgd-2": lambda: Steps(num_steps=2, step_size=half),
        "pgd-3": lambda: Steps(num_steps=3, step_size=half),
        "n-fgsm": NFGSM,
    }
    return build[recipe.inner]()
