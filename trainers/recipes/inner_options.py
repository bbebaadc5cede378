"""Options of the inner attack of adversarial training."""

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

from saat_tf.models.inner import NFGSM, YOPO, FGSMPrior, Free, InnerAttack, Steps, half_radius
from saat_tf.threat_model import ThreatModel, from_255

if TYPE_CHECKING:
    from trainers.recipes.run_options import RunOptions

InnerName = Literal["pgd", "pgd-2", "pgd-3", "n-fgsm", "fgsm-prior", "yopo", "free"]
FREE_REPLAYS = 4
YOPO_STEP_SHARE = 0.25
# What --inner pgd alone reads.
STEP_OPTIONS = ("num_steps", "step_255")
# What the replicas of a step cannot share.
ON_ONE_DEVICE = ("fgsm-prior", "free")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnerOptions:
    """The option of the inner attack."""

    inner: InnerName = "pgd"
    """Inner attack of training; evaluation is the same for all. A pass is one through the network and
    back to the pixels; what a step does beside them costs about as much as three or four.

    pgd: --num-steps passes, with steps of --step-255, from a random point of the ball: the published one;
    pgd-2, pgd-3: two or three passes, with steps of half of --epsilon-255;
    n-fgsm: one pass and one step of --epsilon-255, from noise of twice that, not projected back into the ball;
    fgsm-prior: one pass and one step of --epsilon-255, from the image's perturbation of the epoch before, which is kept
    in 6 bytes a pixel (1.5 GB for 5,000 images of 224 pixels), in checkpoints too; not with --random-crop;
    yopo: two passes, after each five steps of a quarter of --epsilon-255 through the first layer alone;
    free: no pass, each batch is trained on 4 times, and the perturbation moves by the gradients of the training;
    --epochs N then takes N/4 passes over the data, rounded up, which are N epochs' updates of the weights.

    fgsm-prior and free train on one device. Fewer passes can lead to collapse: see --on-collapse."""


def build_inner(recipe: "RunOptions", *, num_items: int) -> InnerAttack:
    """Build the inner attack that a recipe names, for so many training images."""
    ball = ThreatModel.from_255(recipe.epsilon_255)
    half, size = half_radius(ball), recipe.image_size
    build = {
        "pgd": lambda: Steps(num_steps=recipe.num_steps, step_size=from_255(recipe.step_255)),
        "pgd-2": lambda: Steps(num_steps=2, step_size=half),
        "pgd-3": lambda: Steps(num_steps=3, step_size=half),
        "n-fgsm": NFGSM,
        "fgsm-prior": lambda: FGSMPrior(num_items=num_items, image_size=size),
        "yopo": lambda: YOPO(step_size=max(YOPO_STEP_SHARE * ball.epsilon, 1e-6)),
        "free": lambda: Free(batch_size=recipe.batch_size, image_size=size, replays=FREE_REPLAYS),
    }
    return build[recipe.inner]()


def replays_of(recipe: "RunOptions") -> int:
    """Return how often each batch of adversarial training is fed in a row."""
    return FREE_REPLAYS if recipe.inner == "free" else 1


def passes_over_data(recipe: "RunOptions", until: int | None = None) -> int:
    """Return how often adversarial training goes over the data: for all of the recipe's epochs, or `until` one of them.

    Example:
        >>> from trainers.recipes.scenes import ScenesRecipe
        >>> [passes_over_data(ScenesRecipe(inner=inner, epochs=10)) for inner in ("pgd", "free")]
        [10, 3]
    """
    return math.ceil((until or recipe.epochs) / replays_of(recipe))


def check_inner(recipe: "RunOptions") -> None:
    """Check that the inner attack fits the rest of the recipe.

    Raises:
        ValueError: images are cropped at random, and perturbations are kept for whole ones; or steps are asked for of
            an attack that has its own.
    """
    changed = [name for name in STEP_OPTIONS if getattr(recipe, name) != getattr(type(recipe), name)]
    if recipe.inner != "pgd" and changed:
        given = ", ".join(f"--{name.replace('_', '-')} {getattr(recipe, name):g}" for name in changed)
        raise ValueError(
            f"--inner {recipe.inner} has steps of its own. Received: {given}. Leave that out, or add --inner pgd."
        )
    if recipe.inner == "fgsm-prior" and getattr(recipe, "random_crop", False):
        raise ValueError(
            "--inner fgsm-prior keeps a perturbation for each image, which does not fit the crops of "
            "--random-crop. Add --no-random-crop, or choose another --inner, such as n-fgsm."
        )
