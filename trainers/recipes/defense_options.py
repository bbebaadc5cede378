"""Options of the adversarial phase: which defense, what its training does beyond the paper, and named sets of both."""

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import tyro

from trainers.recipes.inner_options import InnerOptions

DefenseName = Literal["saat", "cgat", "atrdh", "ibp"]
RecipeName = Literal["paper", "strong", "fast"]

# What measured best on held-out queries of Corel-5K; docs/evaluation.md has the figures.
STRONG = {
    "inner_training": "inference",
    "adversarial_optimizer": "adam",
    "learning_rate": 2e-3,
    "adversarial_weight": 6.0,
    "adversarial_hashing_weight": 6.0,
}


@dataclasses.dataclass(frozen=True)
class Share:
    """This share of what the trainer has for an option by itself, rounded up."""

    share: float


# Robust MAP of seven steps in a fraction of their time, at a lower clean MAP: docs/performance.md. With the published
# lambda of 1, half of the epochs fall short of it where there are many training images.
FAST_SHARE = 1 / 2
FAST = {"inner": "free", "epochs": Share(FAST_SHARE), "adversarial_weight": 3.0}
RECIPES: Mapping[str, Mapping[str, object]] = {"paper": {}, "strong": STRONG, "fast": FAST}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DefenseOptions(InnerOptions):
    """Options of the adversarial phase; those that no paper of a defense has are off by default."""

    recipe: RecipeName = "paper"
    """Set of defaults for the adversarial phase: paper is the method as published, with this trainer's settings;
    strong adds the refinements that measured best; fast perturbs in fewer passes, for fewer epochs, with larger lambda.
    Every option can still be given; add --help to see the values."""
    defense: DefenseName = "saat"
    """Adversarial training after the hashing phase: saat (mainstay codes), cgat (center codes), atrdh (targeted
    adversarial images, codes of a prototype network), or ibp (saat, and interval bounds of the logits over the ball,
    for certificates by ibp and crown)."""
    bound_share: float = 0.5
    """Share of the bounds' loss in that of ibp; the rest is that of adversarial images. 1: make no such images."""
    bound_ramp: float = 0.5
    """Share of the adversarial phase over which the radius of ibp's bounds grows from 0 to --epsilon-255."""
    bound_from_scratch: bool = False
    """Begin ibp with weights drawn as suits bounds; the model of the hashing phase only gives the target codes."""
    robust_weights: str | None = None
    """Begin adversarial training with a backbone that was trained against attacks, and with a head drawn anew:
    packaged, the package's own of efficientnet_lite0; or a file, such as backbone.safetensors of a run of python -m
    trainers.pretrain. Default: begin with the undefended model."""
    head_epochs: int = 0
    """Of the epochs of adversarial training, train the head alone in so many first ones; the backbone stays."""
    backbone_rate: float = 1.0
    """Learning rate of the backbone in adversarial training, as a share of --learning-rate, such as 0.1."""
    adversarial_optimizer: Literal["sgd", "adam"] | None = None
    """Optimizer of adversarial training. Default: that of --optimizer."""
    adversarial_hashing_weight: float = 0.0
    """Weight of the hashing loss on the codes of adversarial images."""
    consistency_weight: float = 0.0
    """Weight of the mean square between codes of images and of their adversarial images, as in TRADES."""
    weight_perturbation: float = 0.0
    """Compute the loss at weights moved against it by this share of their norm, such as 0.005 (AWP)."""
    held_out_queries: int = 0
    """Keep this many training images out of training, spread evenly over their list; attack them after each adversarial
    epoch, and end with the weights of the epoch at which they were most robust. 0: end with the last epoch."""


Options = TypeVar("Options", bound=DefenseOptions)


def named_recipe(kind: type[Options], name: str, **options: object) -> Options:
    """Make a recipe of the trainer `kind` with the defaults of the set `name`, of which `options` replace some.

    Example:
        >>> from trainers.recipes.scenes import ScenesRecipe
        >>> recipe = named_recipe(ScenesRecipe, "strong", learning_rate=1e-3)
        >>> recipe.inner_training, recipe.learning_rate
        ('inference', 0.001)
    """
    own: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {
        option: math.ceil(value.share * own[option]) if isinstance(value, Share) else value
        for option, value in RECIPES[name].items()
    }
    return kind(**{**values, **options, "recipe": name})


def read_command_line(kind: type[Options], arguments: Sequence[str] | None = None) -> Options:
    """Make a recipe of the trainer `kind` from the command line; --recipe decides the defaults of the other options.

    Args:
        kind: the trainer's recipe.
        arguments: instead of those of the process.
    """
    name = asked_recipe(arguments)
    # An unknown name is tyro's to refuse, with the names there are.
    if name not in RECIPES:
        return tyro.cli(kind, args=arguments)
    return tyro.cli(kind, args=arguments, default=named_recipe(kind, name))


def asked_recipe(arguments: Sequence[str] | None = None) -> str:
    """Return what the command line gives for --recipe, whether or not there is such a set."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", nargs="?", default="paper")
    return first.parse_known_args(arguments)[0].recipe
