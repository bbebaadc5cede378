"""The list format of the hashing field: `<split>_img.txt` and `<split>_label.txt` for train, database and test."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SPLITS = ("train", "database", "test")
HOW_TO_LAY_OUT = (
    "A data folder holds <split>_img.txt (one image path a line, relative to the folder) and <split>_label.txt (one "
    "row of 0/1 a line) for the splits train, database and test; test holds the queries."
)


class DataError(ValueError):
    """Something is wrong with the user's data; the message names file, line and remedy."""


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Images and labels of one split.

    Args:
        name: "train", "database" or "test".
        paths: N image files.
        labels: float32 (N, C) of 0/1.
        lines: the line of each image in its list, counted from 1, for messages.
    """

    name: str
    paths: tuple[Path, ...]
    labels: np.ndarray
    lines: tuple[int, ...]

    def take(self, kept: Sequence[int]) -> "ImageList":
        """Return the list of the items at the places `kept`."""
        return ImageList(
            self.name, tuple(self.paths[i] for i in kept), self.labels[kept], tuple(self.lines[i] for i in kept)
        )


@dataclasses.dataclass(frozen=True)
class ImageLists:
    """The three splits of a data set; `test` holds the queries."""

    train: ImageList
    database: ImageList
    test: ImageList


def read_image_lists(data_dir: Path, *, num_classes: int | None = None) -> ImageLists:
    """Read the three splits of a folder in the list format, and check them.

    Args:
        data_dir: the folder.
        num_classes: keep the first label columns only, and of the images those that keep a label; all by default.

    Returns:
        `ImageLists` with non-empty splits, one label width, existing files, and no query in the database.

    Raises:
        DataError: anything is missing, malformed, of unequal length, empty, or a query stands in the database.
    """
    data_dir = Path(data_dir)
    splits = [_read_split(data_dir, name) for name in SPLITS]
    widths = {split.name: split.labels.shape[1] for split in splits}
    if len(set(widths.values())) > 1:
        raise DataError(f"{data_dir}: label rows differ in width between splits: {widths}. Use one set of classes.")
    _check_disjoint(data_dir, test=splits[2], database=splits[1])
    width = widths["train"]
    if num_classes is not None:
        if not 1 <= num_classes <= width:
            raise DataError(f"{data_dir}: cannot keep {num_classes} label columns of {width}. Ask for 1 to {width}.")
        splits = [_keep_columns(split, num_classes, data_dir) for split in splits]
    return ImageLists(*splits)


def _read_split(data_dir: Path, name: str) -> ImageList:
    image_file, label_file = data_dir / f"{name}_img.txt", data_dir / f"{name}_label.txt"
    for file in (image_file, label_file):
        if not file.is_file():
            raise DataError(f"{file}: no such file. {HOW_TO_LAY_OUT}")
    lines, label_lines = _lines(image_file), _lines(label_file)
    if len(lines) != len(label_lines):
        raise DataError(
            f"{image_file} has {len(lines)} lines and {label_file} has {len(label_lines)}. "
            "They must have one line for each image, in one order."
        )
    if not lines:
        raise DataError(f"{image_file}: the list is empty. {HOW_TO_LAY_OUT}")
    paths = tuple(data_dir / line.strip() for line in lines)
    for number, path in enumerate(paths, start=1):
        if not path.is_file():
            raise DataError(
                f"{image_file}:{number}: no such image: {path}. Restore it, or remove line {number} of both lists."
            )
    return ImageList(name, paths, _parse_labels(label_file, label_lines), tuple(range(1, len(paths) + 1)))


def _lines(file: Path) -> list[str]:
    """Read the lines of a text file, without blank ones at its end."""
    try:
        return file.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: not a UTF-8 text file ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error


def _parse_labels(file: Path, lines: list[str]) -> np.ndarray:
    width = len(lines[0].split())
    if not width:
        raise DataError(f"{file}:1: the row is blank. Each row needs one 0 or 1 for each class.")
    labels = np.zeros((len(lines), width), np.float32)
    for number, line in enumerate(lines, start=1):
        values = line.split()
        if len(values) != width:
            raise DataError(
                f"{file}:{number}: expected {width} values, as line 1 has. Received: {len(values)}. "
                "Each row needs one 0 or 1 for each class."
            )
        strange = set(values) - {"0", "1"}
        if strange:
            raise DataError(f"{file}:{number}: labels must be 0 or 1. Received: {sorted(strange)[0]!r}.")
        labels[number - 1] = [value == "1" for value in values]
    return labels


def _keep_columns(split: ImageList, num_classes: int, data_dir: Path) -> ImageList:
    kept = np.flatnonzero(split.labels[:, :num_classes].any(axis=1))
    if not kept.size:
        raise DataError(
            f"{data_dir}/{split.name}_label.txt: no image has one of the first {num_classes} labels. Keep more columns."
        )
    split = split.take(kept)
    return dataclasses.replace(split, labels=split.labels[:, :num_classes])


def _check_disjoint(data_dir: Path, *, test: ImageList, database: ImageList) -> None:
    in_database = {os.path.realpath(path): number for number, path in enumerate(database.paths, start=1)}
    queries = [(number, os.path.realpath(path)) for number, path in enumerate(test.paths, start=1)]
    shared = [(number, path) for number, path in queries if path in in_database]
    if shared:
        number, path = shared[0]
        raise DataError(
            f"{data_dir}/test_img.txt:{number}: the query {os.path.basename(path)} also stands in the database "
            f"({data_dir}/database_img.txt:{in_database[path]}); {len(shared)} queries do. A query that finds itself "
            "inflates the score: remove the queries from the database list."
        )
