"""Recipes of the paper's data sets: MS-COCO, NUS-WIDE and FLICKR-25K differ by a row of a table."""

import dataclasses
import textwrap
from collections.abc import Callable
from pathlib import Path

from saat_tf.data import LabeledImages, Protocol
from saat_tf.data.tfds import coco, flickr25k, nus_wide
from trainers.recipes.file_data import FileData, load_data_set
from trainers.recipes.recipe import SplitRecipe

LIST_FORMAT = (
    "A folder in the list format is read as it is: <split>_img.txt, one image path a line, and <split>_label.txt, one "
    "row of\n0/1 a line, for train, database and test."
)
TRAIN_COCO = """\
Then train on that folder, by a split that is drawn by the protocol:
  python -m trainers.coco --data-dir THAT_FOLDER --split seeded
or by published lists, such as those of HashNet, whose database lacks the training images and has the queries:
  python -m trainers.coco --data-dir THAT_FOLDER --lists FOLDER_OF_THE_LISTS --database joined
Or have TensorFlow Datasets fetch it, 20 GB: python -m saat_tf.data.prepare coco --download --out DIR"""
PREPARE_AND_TRAIN = """\
Then write the list format once, and train on it:
  python -m saat_tf.data.prepare {name} --data-dir THAT_FOLDER --out data/{name}
  python -m trainers.{name} --data-dir data/{name}
or train on {unpacked}: --data-dir THAT_FOLDER --split seeded"""


@dataclasses.dataclass(frozen=True)
class Published:
    """A data set of the paper, with the scores at 32 bits that the paper has for it.

    Args:
        name: of the data set and of its trainer.
        read: reads the data set as it was fetched.
        protocol: the sizes of its split.
        fetch: where to get it.
        train: the commands that train on what was fetched.
        undefended: the paper's MAP@5000, clean and under attack, of the undefended model.
        saat: the same of SAAT's.
        chance: MAP of a random order.
        split: the split in words.
    """

    name: str
    read: Callable[[Path], LabeledImages]
    protocol: Protocol
    fetch: str
    train: str
    undefended: tuple[float, float]
    saat: tuple[float, float]
    chance: str
    split: str

    @property
    def how_to_get(self) -> str:
        """Tell a user who has no data yet what to do."""
        return f"{self.fetch}\n{self.train}\n{LIST_FORMAT}"

    @property
    def description(self) -> str:
        """Describe the recipe: command, cost, expected scores, source."""
        (clean, attacked), (saat_clean, saat_attacked) = self.undefended, self.saat
        lines = (
            f"Command: python -m trainers.{self.name} --data-dir DIR",
            "Cost: days on a laptop CPU; made for a GPU. A first try: --limit-train 512 --pretrain-epochs 5 "
            "--epochs 2.",
            f"Expected: the paper's MAP@5000 at 32 bits, from ImageNet weights, is {clean:.3f} clean and "
            f"{attacked:.3f} under attack for the undefended model, {saat_clean:.3f} and {saat_attacked:.3f} for SAAT; "
            f"chance is {self.chance}. Start from ImageNet weights by --weights alexnet-owt-7be5be79.pth, "
            "torchvision's file; without it the network starts from random weights.",
            f"Source: arXiv 2310.14637 and the authors' code. Split: {self.split}.",
        )
        return "\n".join(textwrap.fill(line, 116, break_on_hyphens=False) for line in lines)

    def load(self, recipe: SplitRecipe) -> FileData:
        """Read and check the data set."""
        return load_data_set(recipe, self.name, self.how_to_get, self.read, self.protocol)


COCO = Published(
    name="coco",
    read=coco.read_coco,
    protocol=coco.PROTOCOL,
    fetch=coco.HOW_TO_GET,
    train=TRAIN_COCO,
    undefended=(0.574, 0.112),
    saat=(0.494, 0.309),
    chance="about 0.35",
    split="5,000 queries, 117,218 in the database, 10,000 for training",
)
FLICKR25K = Published(
    name="flickr25k",
    read=flickr25k.read_flickr25k,
    protocol=flickr25k.PROTOCOL,
    fetch=flickr25k.HOW_TO_GET,
    train=PREPARE_AND_TRAIN.format(name="flickr25k", unpacked="the unpacked folders themselves"),
    undefended=(0.823, 0.145),
    saat=(0.735, 0.348),
    chance="about 0.53",
    split="1,700 queries, 23,300 in the database, 5,000 for training",
)
NUS_WIDE = Published(
    name="nus_wide",
    read=nus_wide.read_nus_wide,
    protocol=nus_wide.PROTOCOL,
    fetch=nus_wide.HOW_TO_GET,
    train=PREPARE_AND_TRAIN.format(name="nus_wide", unpacked="that folder itself"),
    undefended=(0.775, 0.119),
    saat=(0.605, 0.503),
    chance="about 0.45, between published queries and training images",
    split="21 classes, 2,100 queries (100 a class), 193,734 in the database, 10,500 for training (500 a class)",
)


def _described(data_set: Published) -> Callable[[type[SplitRecipe]], type[SplitRecipe]]:
    """Return a decorator that adds the description of a data set to the docstring of its recipe."""

    def describe(kind: type[SplitRecipe]) -> type[SplitRecipe]:
        kind.__doc__ = f"{kind.__doc__}\n\n{data_set.description}\n"
        return kind

    return describe


@_described(COCO)
@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoRecipe(SplitRecipe):
    """Hash MS-COCO by the paper's settings: AlexNet, DPH, SGD, 100 epochs of hashing, then 20 of SAAT."""


@_described(FLICKR25K)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Flickr25kRecipe(SplitRecipe):
    """Hash FLICKR-25K by the paper's settings: AlexNet, DPH, SGD, 100 epochs of hashing, then 20 of SAAT."""


@_described(NUS_WIDE)
@dataclasses.dataclass(frozen=True, kw_only=True)
class NusWideRecipe(SplitRecipe):
    """Hash NUS-WIDE by the paper's settings: AlexNet, DPH, SGD, 100 epochs of hashing, then 20 of SAAT."""
