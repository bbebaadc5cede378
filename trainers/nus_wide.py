"""Train and attack on NUS-WIDE: `python -m trainers.nus_wide --data-dir DIR`."""

import dataclasses
import sys

from saat_tf.data.tfds.nus_wide import HOW_TO_GET as HOW_TO_FETCH
from saat_tf.data.tfds.nus_wide import PROTOCOL, read_nus_wide
from trainers.recipes.defense_options import read_command_line
from trainers.recipes.file_data import FileData, load_data_set
from trainers.recipes.recipe import SplitRecipe
from trainers.runs.run import main

HOW_TO_GET = f"""\
{HOW_TO_FETCH}
Then write the list format once, and train on it:
  python -m saat_tf.data.prepare nus_wide --data-dir THAT_FOLDER --out data/nus_wide
  python -m trainers.nus_wide --data-dir data/nus_wide
or train on that folder itself: --data-dir THAT_FOLDER --split seeded
A folder in the list format is read as it is: <split>_img.txt, one image path a line, and <split>_label.txt, one row of
0/1 a line, for train, database and test."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NusWideRecipe(SplitRecipe):
    """Hash NUS-WIDE by the paper's settings: AlexNet, DPH, SGD, 100 epochs of hashing, then 20 of SAAT.

    Command: python -m trainers.nus_wide --data-dir DIR
    Cost: days on a laptop CPU; made for a GPU. A first try: --limit-train 512 --pretrain-epochs 5 --epochs 2.
    Expected: the paper's MAP@5000 at 32 bits, from ImageNet weights, is 0.775 clean and 0.119 under attack for the
    undefended model, 0.605 and 0.503 for SAAT; chance is about 0.45, between published queries and training images.
    Start from them by --weights alexnet-owt-7be5be79.pth, torchvision's file; without it from random ones.
    Source: arXiv 2310.14637 and the authors' code. Split: 21 classes, 2,100 queries (100 a class), 193,734 in the
    database, 10,500 for training (500 a class).
    """


def load(recipe: NusWideRecipe) -> FileData:
    """Read and check the data set."""
    return load_data_set(recipe, "nus_wide", HOW_TO_GET, read_nus_wide, PROTOCOL)


if __name__ == "__main__":
    recipe = read_command_line(NusWideRecipe)
    sys.exit(main(recipe, "nus_wide", lambda: load(recipe)))
