"""Recipe dataclasses, from which the command line is made."""

import dataclasses
from pathlib import Path
from typing import Literal

from trainers.recipes.defense_options import DefenseOptions
from trainers.recipes.run_options import FileOptions, RunOptions

HashingLossName = Literal[
    "dph", "dpsh", "hashnet", "hswd", "dsdh", "dch", "csq", "dpn", "orthohash", "greedyhash"
]  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(DefenseOptions, RunOptions):
    """Options that every trainer of hashing models has; a trainer's own recipe sets their defaults."""

    bits: int = 32
    """Code length, a multiple of 8."""
    hashing_loss: HashingLossName = "dph"
    """Loss that teaches which images belong together.

    Pairwise, against all training images:
    dph: square of similarity less relevance, the paper's choice;
    dpsh: likelihood of relevance, bits drawn to +-1;
    hashnet: likelihood with relevant and other pairs in balance, tanh that sharpens step by step;
    hswd: hashnet, bits distributed like those of random codes;
    dsdh: dpsh, codes that tell the classes apart by a linear map as well;
    dch: Cauchy likelihood, among the images of a batch.

    Towards a code or a place for each class:
    csq: cross-entropy to Hadamard centers;
    dpn: hinge to balanced random codes;
    orthohash: softmax of cosines to random codes, after batch norm;
    greedyhash: linear classifier on the signed code."""
    pretrain_epochs: int = 100
    """Epochs of plain hashing training, which gives the undefended model."""
    pretrain_learning_rate: float = 0.01
    """Learning rate of pre-training."""
    adversarial_weight: float | None = None
    """Lambda, the weight of the adversarial term. Default: that of its authors, 1 for saat and cgat, 2 for atrdh."""
    quantization_weight: float | None = None
    """Mu, the weight of the quantization term. Default: that of its authors, 1e-4 for saat, 0 for cgat; atrdh has no
    such term."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on the pixels, in units of [0, 1], such as 0.25, in both phases of training:
    what certificates by smoothing need. 0: none."""
    front_pooling: int = 1
    """Side of the squares of pixels whose means the network sees instead of the image; certificates by smoothing reach
    so many times as far. 1: the image itself."""
    orthogonal_head: bool = False
    """Keep the matrix of the logits orthonormal; with --backbone lipschitz_cnn, for certificates by margins."""
    top_k: int = 5000
    """k of MAP@k."""

    def folder_name(self, name: str) -> str:
        """Return how the folder of a run on the data set `name` begins."""
        return f"{name}-{self.bits}bits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileRecipe(FileOptions, Recipe):
    """Options of the trainers of hashing models that read image files."""

    data_dir: Path | None = None
    """Folder in the list format: <split>_img.txt and <split>_label.txt for train, database and test."""
    num_labels: int | None = None
    """Keep the first so many label columns and the images that have one of them. Default: all."""
    cache_dir: Path | None = None
    """Keep the decoded training images on disk in this folder, also for later runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderRecipe(FileRecipe):
    """Options of the trainers that read class folders."""

    data_dir: Path | None = None
    """Folder of class folders: <class>/<image>; or train/<class>/<image> and val/<class>/<image>, whose val/ (or
    validation/, valid/, test/) has the queries."""
    query_share: float = 0.1
    """Share of each class's images to draw as queries, where the folder does not divide them; the others are the
    database, and all of those the training set."""
    split_seed: int = 0
    """Seed of that draw, apart from the seed of the training: runs are compared on one split."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitRecipe(FileRecipe):
    """Options of the trainers that can divide a data set themselves."""

    data_dir: Path | None = None
    """Folder in the list format; or, with --split seeded or with --lists, the data set as it was fetched."""
    split: Literal["official", "seeded"] = "official"
    """official: as lists say, those in --data-dir or --lists; seeded: drawn by the protocol of the data set."""
    split_seed: int = 0
    """Seed of the seeded split, apart from the seed of the training: runs are compared on one split."""
    lists: Path | None = None
    """Folder of official lists, plain or .gz; or the beginning of their names, such as lists/FLICKR-25K_."""
    database: Literal["listed", "joined", "rest"] = "listed"
    """Database by --lists: as listed; joined, (database + train) - test, for HashNet's COCO lists; or the rest, every
    image that is no query, for lists without a database."""
