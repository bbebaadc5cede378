"""The list format of the hashing field: `<split>_img.txt` and `<split>_label.txt` for train, database and test."""

import dataclasses
import gzip
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from saat_tf.data.split_rules import Rows, query_faults, raise_errors
from saat_tf.files import write_bytes
from saat_tf.text_lists import DataError, can_be_listed, listed_path, read_lines

SPLITS = ("train", "database", "test")
HOW_TO_LAY_OUT = (
    "A data folder contains <split>_img.txt (one image path a line, relative to the folder) and <split>_label.txt (one "
    "row of 0/1 a line) for the splits train, database and test; test has the queries. Each may be gzipped: .txt.gz."
)


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

    def take(self, kept: Sequence[int] | np.ndarray) -> "ImageList":
        """Return the list of the items at the places `kept`."""
        return ImageList(
            self.name, tuple(self.paths[i] for i in kept), self.labels[kept], tuple(self.lines[i] for i in kept)
        )


@dataclasses.dataclass(frozen=True)
class ImageLists:
    """The three splits of a data set; `test` contains the queries."""

    train: ImageList
    database: ImageList
    test: ImageList


def read_image_lists(data_dir: Path, *, num_classes: int | None = None) -> ImageLists:
    """Read the three splits of a folder in the list format, and check them.

    Args:
        data_dir: the folder.
        num_classes: keep the first label columns only, and of the images those that keep a label; all by default.

    Returns:
        `ImageLists` with non-empty splits, one label width, existing files, and no query in the database or the
        training set.

    Raises:
        DataError: anything is missing, malformed, of unequal length, empty, or a query stands in another split.
    """
    data_dir = Path(data_dir)
    splits = [_read_split(data_dir, name) for name in SPLITS]
    widths = {split.name: split.labels.shape[1] for split in splits}
    if len(set(widths.values())) > 1:
        raise DataError(f"{data_dir}: label rows differ in width between splits: {widths}. Use one set of classes.")
    lists = ImageLists(*splits)
    raise_errors(query_faults({split.name: _rows(data_dir, split) for split in splits}))
    return lists if num_classes is None else keep_columns(lists, num_classes, data_dir)


def keep_columns(lists: ImageLists, num_classes: int, place: Path) -> ImageLists:
    """Keep the first `num_classes` label columns, and of the images those that keep a label.

    Args:
        lists: the three splits.
        num_classes: columns to keep.
        place: where the data lie, for messages.

    Raises:
        DataError: there are fewer columns, or a split keeps no image.
    """
    width = lists.train.labels.shape[1]
    if not 1 <= num_classes <= width:
        raise DataError(f"{place}: cannot keep {num_classes} label columns of {width}. Ask for 1 to {width}.")
    splits = (lists.train, lists.database, lists.test)
    return ImageLists(*(_keep_columns(split, num_classes, place) for split in splits))


def read_class_names(data_dir: Path, num_classes: int) -> list[str]:
    """Read classes.txt, one name a column, where there is one; else number the columns.

    Raises:
        DataError: it is no UTF-8 text, or has fewer names than there are columns.
    """
    file = data_dir / "classes.txt"
    if not file.is_file():
        return [f"label {column}" for column in range(num_classes)]
    names = read_lines(file)[:num_classes]
    if len(names) < num_classes or not all(names):
        raise DataError(f"{file}: expected {num_classes} class names, one a line, as the label rows have columns.")
    return names


def write_image_lists(lists: ImageLists, class_names: Sequence[str], folder: Path, *, suffix: str = ".txt") -> None:
    """Write three splits and the class names in the list format.

    Image paths are written relative to the folder, with `/`, and lead to the images themselves, not to links to them:
    the folder and the images may move together, and no copy is made.

    Args:
        lists: the three splits.
        class_names: C names, the label columns in their order.
        folder: the folder to fill; made where there is none.
        suffix: ".txt", or ".txt.gz" for lists a tenth as large.

    Raises:
        DataError: the path of an image cannot stand on a line of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "classes.txt", class_names)
    base = os.path.realpath(folder)
    for split in (lists.train, lists.database, lists.test):
        paths = [Path(os.path.relpath(os.path.realpath(path), base)).as_posix() for path in split.paths]
        strange = [path for path in paths if not can_be_listed(path)]
        if strange:
            raise DataError(
                f"the path {strange[0]!r} cannot stand in a list: it has a space at an end, a line break, a backslash "
                "or bytes that are not UTF-8. Rename the image."
            )
        _write_lines(folder / f"{split.name}_img{suffix}", paths)
        digits = split.labels.astype(np.uint8).astype("U1")
        _write_lines(folder / f"{split.name}_label{suffix}", map(" ".join, digits))


def find_list(path: Path) -> Path | None:
    """Return `path`, or where there is no such file its gzipped form `path`.gz, or where there is neither None."""
    return next((file for file in (path, path.with_name(f"{path.name}.gz")) if file.is_file()), None)


def read_split(images: Path, labels: Path) -> tuple[list[str], np.ndarray]:
    """Read a list of image names and its list of labels, plain or gzipped.

    Args:
        images: N names, one a line.
        labels: N rows of 0/1.

    Returns:
        The names as they are listed, and float32 (N, C).

    Raises:
        DataError: a file is missing, empty, malformed, or of another length than the other.
    """
    image_file, label_file = (_existing_list(path) for path in (images, labels))
    lines, label_lines = read_lines(image_file), read_lines(label_file)
    if len(lines) != len(label_lines):
        raise DataError(
            f"{image_file} has {len(lines)} lines and {label_file} has {len(label_lines)}. "
            "They must have one line for each image, in one order."
        )
    if not lines:
        raise DataError(f"{image_file}: the list is empty. {HOW_TO_LAY_OUT}")
    return lines, _parse_labels(label_file, label_lines)


def _existing_list(path: Path) -> Path:
    file = find_list(path)
    if file is None:
        raise DataError(f"{path}: no such file. {HOW_TO_LAY_OUT}")
    return file


def _read_split(data_dir: Path, name: str) -> ImageList:
    images = data_dir / f"{name}_img.txt"
    names, labels = read_split(images, data_dir / f"{name}_label.txt")
    paths = tuple(data_dir / listed_path(name) for name in names)
    for number, path in enumerate(paths, start=1):
        if not path.is_file():
            raise DataError(
                f"{images}:{number}: no such image: {path}. Restore it, or remove line {number} of both lists."
            )
    return ImageList(name, paths, labels, tuple(range(1, len(paths) + 1)))


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    contents = "".join(f"{line}\n" for line in lines).encode()
    if file.name.endswith(".gz"):
        contents = gzip.compress(contents, mtime=0)  # without the time, one split gives one file
    write_bytes(file, contents)


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
        digits = "".join(values)
        if len(digits) != width or digits.strip("01"):
            strange = min(set(values) - {"0", "1"})
            raise DataError(f"{file}:{number}: labels must be 0 or 1. Received: {strange!r}.")
        labels[number - 1] = np.frombuffer(digits.encode(), np.uint8) - ord("0")
    return labels


def _keep_columns(split: ImageList, num_classes: int, data_dir: Path) -> ImageList:
    kept = np.flatnonzero(split.labels[:, :num_classes].any(axis=1))
    if not kept.size:
        raise DataError(
            f"{data_dir}/{split.name}_label.txt: no image has one of the first {num_classes} labels. Keep more columns."
        )
    split = split.take(kept)
    return dataclasses.replace(split, labels=split.labels[:, :num_classes])


def _rows(data_dir: Path, split: ImageList) -> Rows:
    """Return the rows of a split, an image known by where its file really is."""
    file = data_dir / f"{split.name}_img.txt"
    keys = [os.path.realpath(path) for path in split.paths]
    return Rows(str(find_list(file) or file), [path.name for path in split.paths], keys, split.lines)
