"""Recipe of a folder of class folders: anybody's photographs on a small network."""

import dataclasses
from typing import Literal

from trainers.recipes.file_data import FileData, load_class_folders
from trainers.recipes.recipe import FolderRecipe, HashingLossName

HOW_TO_GET = """\
Lay the images out in a folder of class folders, one class an image:
  <class>/<image>                                   queries are drawn from each class, by --query-share and --split-seed
  train/<class>/<image> and val/<class>/<image>     those of val/ are the queries
then run: python -m trainers.folders --data-dir DIR
Images with several labels need the list format: python -m trainers.corel5k says how."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldersRecipe(FolderRecipe):
    """Hash the images of a folder of class folders, attack the codes, and train them to withstand it.

    Command: python -m trainers.folders --data-dir DIR
    Cost: half an hour for 5,000 photographs on 2 CPU cores.
    Expected: depends on the images; the card has the MAP of a random order beside each score.
    Source: settings of the trainer of Corel-5K; the method is that of arXiv 2310.14637.
    """

    backbone: str = "efficientnet_lite0"
    pretrained: bool = True
    bits: int = 64
    image_size: int = 64
    crop_fraction: float = 1.0
    cache: bool = True
    hashing_loss: HashingLossName = "csq"
    optimizer: Literal["sgd", "adam"] = "adam"
    flip: bool = True
    pretrain_epochs: int = 30
    epochs: int = 16
    pretrain_learning_rate: float = 2e-3
    learning_rate: float = 2e-3
    inner_training: Literal["training", "inference"] = "inference"
    weight_decay: float = 0.0


def load(recipe: FoldersRecipe) -> FileData:
    """Read and check the data set."""
    return load_class_folders(recipe, "folders", HOW_TO_GET)
