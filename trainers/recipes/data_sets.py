"""Recipes and loaders by the name of the data set, and the data that a card names."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saat_tf.data import DataError, RetrievalData
from trainers.recipes import corel5k, folders, published, scenes
from trainers.recipes.recipe import FileRecipe, Recipe

DATA_SETS: dict[str, tuple[type[Recipe], Callable[[Any], RetrievalData]]] = {
    "coco": (published.CocoRecipe, published.COCO.load),
    "corel5k": (corel5k.Corel5kRecipe, corel5k.load),
    "flickr25k": (published.Flickr25kRecipe, published.FLICKR25K.load),
    "folders": (folders.FoldersRecipe, folders.load),
    "nus_wide": (published.NusWideRecipe, published.NUS_WIDE.load),
    "scenes": (scenes.ScenesRecipe, scenes.load),
}


def load_data_of(card: dict, data_dir: Path | None = None) -> tuple[Recipe, RetrievalData]:
    """Rebuild the recipe of a card and load its data again.

    Args:
        card: of a finished run.
        data_dir: where the images are now, if not where the run found them.

    Raises:
        DataError: the card names an unknown data set or option, or the data are wrong.
    """
    if card["dataset"] not in DATA_SETS:
        raise DataError(f"The card's data set must be one of {', '.join(DATA_SETS)}. Received: {card['dataset']!r}.")
    kind, load = DATA_SETS[card["dataset"]]
    config: dict[str, Any] = {
        name: Path(value) if value is not None and _is_path(kind, name) else value
        for name, value in card["config"].items()
    }
    try:
        recipe = kind(**config)
    except TypeError as error:
        raise DataError(
            f"The card's config is not one of {kind.__name__} ({error}). Use the version that made it."
        ) from error
    if data_dir is not None:
        if not isinstance(recipe, FileRecipe):
            raise DataError(f"--data-dir does not apply to {card['dataset']}, which is drawn.")
        recipe = dataclasses.replace(recipe, data_dir=data_dir)
    return recipe, load(recipe)


def _is_path(kind: type[Recipe], name: str) -> bool:
    return any(field.name == name and "Path" in str(field.type) for field in dataclasses.fields(kind))
