"""Train and attack on MS-COCO: `python -m trainers.coco --data-dir DIR`."""

import dataclasses
import sys

from saat_tf.data.tfds.coco import HOW_TO_GET as HOW_TO_FETCH
from saat_tf.data.tfds.coco import PROTOCOL, read_coco
from trainers.recipes.defense_options import read_command_line
from trainers.recipes.file_data import FileData, load_data_set
from trainers.recipes.recipe import SplitRecipe
from trainers.runs.run import main

HOW_TO_GET = f"""\
{HOW_TO_FETCH}
Then train on that folder, by a split that is drawn by the protocol:
  python -m trainers.coco --data-dir THAT_FOLDER --split seeded
or by published lists, such as those of HashNet, whose database lacks the training images and has the queries:
  python -m trainers.coco --data-dir THAT_FOLDER --lists FOLDER_OF_THE_LISTS --database joined
Or have TensorFlow Datasets fetch it, 20 GB: python -m saat_tf.data.prepare coco --download --out DIR
A folder in the list format is read as it is: <split>_img.txt, one image path a line, and <split>_label.txt, one row of
0/1 a line, for train, database and test."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoRecipe(SplitRecipe):
    """Hash MS-COCO by the paper's settings: AlexNet, DPH, SGD, 100 epochs of hashing, then 20 of SAAT.

    Command: python -m trainers.coco --data-dir DIR
    Cost: days on a laptop CPU; made for a GPU. A first try: --limit-train 512 --pretrain-epochs 5 --epochs 2.
    Expected: the paper's MAP@5000 at 32 bits, from ImageNet weights, is 0.574 clean and 0.112 under attack for the
    undefended model, 0.494 and 0.309 for SAAT; chance is about 0.35. Start from them by --weights
    alexnet-owt-7be5be79.pth, torchvision's file; without it the network starts from random weights.
    Source: arXiv 2310.14637 and the authors' code. Split: 5,000 queries, 117,218 in the database, 10,000 for training.
    """


def load(recipe: CocoRecipe) -> FileData:
    """Read and check the data set."""
    return load_data_set(recipe, "coco", HOW_TO_GET, read_coco, PROTOCOL)


if __name__ == "__main__":
    recipe = read_command_line(CocoRecipe)
    sys.exit(main(recipe, "coco", lambda: load(recipe)))
