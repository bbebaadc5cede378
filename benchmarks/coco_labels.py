"""Label rows of MS-COCO for the benchmarks: those of the official lists where they lie beside the repository."""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np

LISTS = Path(__file__).parents[1] / "../shared/data/hash_lists"
NUM_CLASSES = 80


class CocoLabels(NamedTuple):
    """uint8 label rows (items, 80); `listed_database` as the list has it, `database` = (listed + train) - queries."""

    source: str
    listed_database: np.ndarray
    database: np.ndarray
    queries: np.ndarray


def coco_labels(lists: Path = LISTS) -> CocoLabels:
    """Read HashNet's lists, or draw rows of the same numbers, the source being named in the result."""
    if not lists.is_dir():
        rng = np.random.default_rng(0)
        popularity = 0.5 / np.arange(1, NUM_CLASSES + 1)  # about three labels an image
        rows = (rng.random((117_218 + 5_000, NUM_CLASSES)) < popularity * 1.25).astype(np.uint8)
        return CocoLabels("drawn at random", rows[:112_218], rows[:117_218], rows[117_218:])
    labels = {split: _label_rows(lists / f"HashNet-COCO_{split}_label.txt.gz") for split in SPLITS}
    images = {split: _lines(lists / f"HashNet-COCO_{split}_img.txt.gz") for split in SPLITS}
    queries = set(images["test"])
    kept = [image not in queries for image in images["database"]]
    database = np.concatenate([labels["database"][kept], labels["train"]])
    return CocoLabels("HashNet's lists", labels["database"], database, labels["test"])


SPLITS = ("database", "train", "test")


def _lines(file: Path) -> list[bytes]:
    return gzip.decompress(file.read_bytes()).split()


def _label_rows(file: Path) -> np.ndarray:
    digits = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8)
    return digits[(digits == ord("0")) | (digits == ord("1"))].reshape(-1, NUM_CLASSES) - ord("0")
