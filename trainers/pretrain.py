"""Train a robust backbone to start from: `python -m trainers.pretrain --data-dir DIR`."""

import sys

import tyro

from trainers.recipes.class_data import load_class_data
from trainers.recipes.pretrain_recipe import PretrainRecipe
from trainers.runs.pretraining import PRETRAINING
from trainers.runs.run import main

if __name__ == "__main__":
    recipe = tyro.cli(PretrainRecipe)
    name = recipe.data_dir.resolve().name if recipe.data_dir else ""
    sys.exit(main(recipe, name, lambda: load_class_data(recipe), PRETRAINING))
