"""Train and attack on MS-COCO: `python -m trainers.coco --data-dir DIR`."""

import dataclasses
import sys

import tyro

from trainers.files import load_files
from trainers.recipe import FileRecipe
from trainers.run import main

HOW_TO_GET = """\
1. Fetch the 2014 images, 13 GB and 6 GB, from https://cocodataset.org/#download: train2014.zip and val2014.zip;
   unpack both in one folder.
2. Put the split into the same folder, in the list format, for train (10,000), database (117,218) and test (5,000):
     <split>_img.txt     one image path a line, such as train2014/COCO_train2014_000000000009.jpg
     <split>_label.txt   one row of eighty 0/1 a line
   The HashNet and ProS-GAN repositories publish these lists.
3. python -m trainers.coco --data-dir THAT_FOLDER"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoRecipe(FileRecipe):
    """Hash MS-COCO by the paper's settings: AlexNet, DPH, SGD, 100 epochs of hashing, then 20 of SAAT.

    Command: python -m trainers.coco --data-dir DIR
    Cost: days on a laptop CPU; made for a GPU. A first try: --limit-train 512 --pretrain-epochs 5 --epochs 2.
    Expected: the paper's MAP@5000 at 32 bits, from ImageNet weights, is 0.574 clean and 0.112 under attack for the
    undefended model, 0.494 and 0.309 for SAAT; chance is about 0.35. Start from them by --weights
    alexnet-owt-7be5be79.pth, torchvision's file; without it the network starts from random weights.
    Source: arXiv 2310.14637 and the authors' code.
    """


if __name__ == "__main__":
    recipe = tyro.cli(CocoRecipe)
    sys.exit(main(recipe, "coco", lambda: load_files(recipe, "coco", HOW_TO_GET)))
