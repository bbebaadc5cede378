"""Checks of the options, before anything is read: ranges, and whether the backbone can have the weights asked for."""

import math
from pathlib import Path

from saat_tf.backbones import backbone_spec, robust_weights_file
from saat_tf.codes import BITS_PER_BYTE
from trainers.recipes.inner_options import check_inner
from trainers.recipes.run_options import RunOptions

PACKAGED = "packaged"
AT_LEAST_ONE = (lambda value: value >= 1, "at least 1")
ABOVE_ZERO = (lambda value: 0 < value < math.inf, "above 0 and finite")
NOT_NEGATIVE = (lambda value: 0 <= value < math.inf, "at least 0 and finite")
NONE_OR_NOT_NEGATIVE = (lambda value: value is None or 0 <= value < math.inf, "at least 0 and finite")
BELOW_ONE = (lambda value: 0 <= value < 1, "in [0, 1)")
OPTION_RANGES = {
    **dict.fromkeys(("image_size", "batch_size", "pretrain_epochs", "epochs", "num_steps"), AT_LEAST_ONE),
    **dict.fromkeys(("attack_steps", "top_k"), AT_LEAST_ONE),
    **dict.fromkeys(("pretrain_learning_rate", "learning_rate"), ABOVE_ZERO),
    **dict.fromkeys(("adversarial_weight", "quantization_weight"), NONE_OR_NOT_NEGATIVE),
    **dict.fromkeys(("weight_decay", "adversarial_hashing_weight", "consistency_weight", "ramp_epochs"), NOT_NEGATIVE),
    **dict.fromkeys(("momentum", "ema_momentum", "weight_perturbation"), BELOW_ONE),
    **dict.fromkeys(("held_out_queries", "probe_images", "head_epochs"), (lambda value: value >= 0, "at least 0")),
    "bits": (lambda value: value >= 1 and value % BITS_PER_BYTE == 0, f"a positive multiple of {BITS_PER_BYTE}"),
    "noise": (lambda value: 0 <= value <= 10, "in [0, 10]"),
    "front_pooling": AT_LEAST_ONE,
    "backbone_rate": (lambda value: 0 < value <= 1, "in (0, 1]"),
    "bound_share": (lambda value: 0 < value <= 1, "in (0, 1]"),
    "bound_ramp": (lambda value: 0 <= value <= 1, "in [0, 1]"),
    "epsilon_255": (lambda value: 0 <= value <= 255, "in [0, 255]"),
    "step_255": (lambda value: 0 < value <= 255, "above 0 and at most 255"),
    **dict.fromkeys(("held_out_share", "query_share"), (lambda value: 0 < value < 1, "in (0, 1)")),
    **dict.fromkeys(("restarts",), AT_LEAST_ONE),
    "test_images": (lambda value: value is None or value >= 1, "at least 1"),
    "limit_train": (lambda value: value is None or value >= 1, "at least 1"),
    "checkpoint_every": (lambda value: value is None or value >= 1, "at least 1"),
    "worker_timeout": ABOVE_ZERO,
    "seed": (lambda value: 0 <= value < 2**31, "in [0, 2^31)"),
}


def check_recipe(recipe: RunOptions) -> None:
    """Check the options before anything else happens.

    Raises:
        ValueError: an option is out of its range; the message names it.
    """
    for option, (fits, expected) in OPTION_RANGES.items():
        if hasattr(recipe, option) and not fits(value := getattr(recipe, option)):
            raise ValueError(f"--{option.replace('_', '-')} must be {expected}. Received: {value}.")
    check_inner(recipe)
    check_weights(recipe)


def check_weights(recipe: RunOptions) -> None:
    """Check that the recipe's backbone exists and can have the weights that it asks for.

    Raises:
        ValueError: there is no such backbone, no such file, or no such weights of it.
    """
    spec = backbone_spec(recipe.backbone)
    if recipe.pretrained and recipe.weights:
        raise ValueError(f"--pretrained and --weights {recipe.weights} exclude each other. Add --no-pretrained.")
    if recipe.pretrained and spec.load_pretrained is None:
        raise ValueError(
            f"--pretrained needs a --backbone with weights to fetch, such as efficientnet_lite0. Received: "
            f"{recipe.backbone}. Add --no-pretrained to start from random weights, or give them as a file by --weights."
        )
    for option, file in (("weights", recipe.weights), ("robust-weights", robust_file(recipe))):
        if file and not file.is_file():
            raise ValueError(f"--{option} must be a file. Received: {file}.")


def robust_file(recipe: RunOptions) -> Path | None:
    """Return the file of the backbone's robust weights that the recipe begins adversarial training with, if any.

    Raises:
        ValueError: the package has none of this backbone.
    """
    asked = getattr(recipe, "robust_weights", None)
    if asked == PACKAGED:
        return robust_weights_file(recipe.backbone)
    return None if asked is None else Path(asked)
