"""Cells of the comparison: inner attacks, on two data sets, each from one undefended model."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

from benchmarks.refinements import held_out_data
from benchmarks.tables.cells import SCALES
from saat_tf.data import RetrievalData
from trainers.callbacks.model_selection import take_out
from trainers.recipes import scenes
from trainers.recipes.corel5k import Corel5kRecipe
from trainers.recipes.defense_options import FAST_SHARE
from trainers.recipes.inner_options import passes_over_data
from trainers.recipes.recipe import Recipe
from trainers.recipes.scenes import ScenesRecipe

DataName = Literal["scenes", "corel5k"]
EPSILON_255, BITS, TOP_K = 8.0, 32, 5000
# Shares of the epochs after which the model is attacked.
POINTS = (0.5, 0.75, 1.0)
BASELINE = "pgd"
# Options of each adversarial phase, beside those of its data set's recipe; "epochs" is the share of the scale's.
KINDS: dict[str, dict] = {
    BASELINE: {"inner": "pgd"},
    "pgd-3": {"inner": "pgd-3"},
    "pgd-2": {"inner": "pgd-2"},
    "n-fgsm": {"inner": "n-fgsm"},
    "fgsm-prior": {"inner": "fgsm-prior"},
    "yopo": {"inner": "yopo"},
    "free": {"inner": "free"},
    "free-short": {"inner": "free", "epochs": FAST_SHARE},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiment on a data set is.

    Args:
        image_size: side of the images in pixels.
        num_train: training images, which are the database too; a multiple of the batch, so that all steps are alike.
        num_queries: training images that are held out and attacked.
        pretrain_epochs: epochs of plain hashing training.
        epochs: epochs of the adversarial phase.
    """

    image_size: int
    num_train: int
    num_queries: int
    pretrain_epochs: int
    epochs: int


SCALES_OF: dict[DataName, Scale] = {
    "scenes": Scale(image_size=32, num_train=1536, num_queries=128, pretrain_epochs=14, epochs=8),
    "corel5k": Scale(image_size=64, num_train=512, num_queries=64, pretrain_epochs=16, epochs=8),
}


def recipe_of(data_name: DataName, kind: str | None, scale: Scale, *, data_dir: Path | None, seed: int) -> Recipe:
    """Return the recipe that trains by an inner attack; None: the undefended model that all start from.

    Example:
        >>> recipe_of("scenes", "free-short", SCALES_OF["scenes"], data_dir=None, seed=0).epochs
        4
    """
    options = dict(KINDS[kind]) if kind else {}
    about = {
        "image_size": scale.image_size,
        "bits": BITS,
        "pretrain_epochs": scale.pretrain_epochs,
        "epochs": math.ceil(scale.epochs * options.pop("epochs", 1.0)),
        "seed": seed,
        "probe_images": 0,
    }
    if data_name == "scenes":
        return ScenesRecipe(**about, num_train=scale.num_train + scale.num_queries, num_queries=1, **options)
    return Corel5kRecipe(**about, data_dir=data_dir, **options)


def points(recipe: Recipe) -> list[int]:
    """Return after how many passes over the data the model is attacked.

    Example:
        >>> points(ScenesRecipe(epochs=8)), points(ScenesRecipe(epochs=8, inner="free"))
        ([4, 6, 8], [1, 2])
    """
    passes = passes_over_data(recipe)
    return sorted({math.ceil(share * passes) for share in POINTS})


def data_of(data_name: DataName, scale: Scale, *, data_dir: Path | None, seed: int) -> RetrievalData:
    """Return training images, which are the database too, and queries held out of them."""
    recipe = recipe_of(data_name, None, scale, data_dir=data_dir, seed=seed)
    if isinstance(recipe, ScenesRecipe):
        _, held_out = take_out(scenes.load(recipe), scale.num_queries)
        return dataclasses.replace(held_out, name="scenes")
    spread = dataclasses.replace(
        SCALES["small"], image_size=scale.image_size, num_train=scale.num_train, num_queries=scale.num_queries
    )
    data = held_out_data(data_dir, spread)
    return RetrievalData(data.name, data.class_names, data.train, data.train, data.test)
