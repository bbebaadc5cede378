"""Recipe of a folder of class folders: anybody's photographs on a small network."""

import dataclasses

from trainers.recipes.file_data import FileData, load_class_folders
from trainers.recipes.photographs import PhotographRecipe
from trainers.recipes.recipe import FolderRecipe

HOW_TO_GET = """\
Lay the images out in a folder of class folders, one class an image:
  <class>/<image>                                   queries are drawn from each class, by --query-share and --split-seed
  train/<class>/<image> and val/<class>/<image>     those of val/ are the queries
then run: python -m trainers.folders --data-dir DIR
Images with several labels need the list format: python -m trainers.corel5k says how."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldersRecipe(PhotographRecipe, FolderRecipe):
    """Hash the images of a folder of class folders, attack the codes, and train them to withstand it.

    Command: python -m trainers.folders --data-dir DIR
    Cost: half an hour for 5,000 photographs on 2 CPU cores.
    Expected: depends on the images; the card has the MAP of a random order beside each score.
    Source: settings of the trainer of Corel-5K; the method is that of arXiv 2310.14637.
    """


def load(recipe: FoldersRecipe) -> FileData:
    """Read and check the data set."""
    return load_class_folders(recipe, "folders", HOW_TO_GET)
