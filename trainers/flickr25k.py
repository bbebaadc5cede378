"""Train and attack on FLICKR-25K: `python -m trainers.flickr25k --data-dir DIR`."""

import dataclasses
import sys

from saat_tf.data.tfds.flickr25k import HOW_TO_GET as HOW_TO_FETCH
from saat_tf.data.tfds.flickr25k import PROTOCOL, read_flickr25k
from trainers.recipes.defense_options import read_command_line
from trainers.recipes.file_data import FileData, load_data_set
from trainers.recipes.recipe import SplitRecipe
from trainers.runs.run import main

HOW_TO_GET = f"""\
{HOW_TO_FETCH}
Then write the list format once, and train on it:
  python -m saat_tf.data.prepare flickr25k --data-dir THAT_FOLDER --out data/flickr25k
  python -m trainers.flickr25k --data-dir data/flickr25k
or train on the unpacked folders themselves: --data-dir THAT_FOLDER --split seeded
A folder in the list format is read as it is: <split>_img.txt, one image path a line, and <split>_label.txt, one row of
0/1 a line, for train, database and test."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flickr25kRecipe(SplitRecipe):
    """Hash FLICKR-25K by the paper's settings: AlexNet, DPH, SGD, 100 epochs of hashing, then 20 of SAAT.

    Command: python -m trainers.flickr25k --data-dir DIR
    Cost: days on a laptop CPU; made for a GPU. A first try: --limit-train 512 --pretrain-epochs 5 --epochs 2.
    Expected: the paper's MAP@5000 at 32 bits, from ImageNet weights, is 0.823 clean and 0.145 under attack for the
    undefended model, 0.735 and 0.348 for SAAT; chance is about 0.53. Start from them by --weights
    alexnet-owt-7be5be79.pth, torchvision's file; without it the network starts from random weights.
    Source: arXiv 2310.14637 and the authors' code. Split: 1,700 queries, 23,300 in the database, 5,000 for training.
    """


def load(recipe: Flickr25kRecipe) -> FileData:
    """Read and check the data set."""
    return load_data_set(recipe, "flickr25k", HOW_TO_GET, read_flickr25k, PROTOCOL)


if __name__ == "__main__":
    recipe = read_command_line(Flickr25kRecipe)
    sys.exit(main(recipe, "flickr25k", lambda: load(recipe)))
