"""Reading a folder in the list format for validation: what can be read is read, and every fault is told."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saat_tf.data.list_format import SPLITS
from saat_tf.data.split_rules import ERROR, WARNING, Fault
from saat_tf.text_lists import DataError, read_lines

LIST_NAME = re.compile(rf"(?P<data_set>.*?)(?P<list>({'|'.join(SPLITS)})_(img|label))\.txt(\.gz)?")
LIKE_A_LIST = re.compile(rf".*({'|'.join(SPLITS)}).*\.txt(\.gz)?")


@dataclasses.dataclass(frozen=True)
class ListedSplit:
    """Readable part of one split.

    Args:
        name: "train", "database" or "test".
        image_file: name of the list of images.
        label_file: name of the list of labels.
        images: N image paths as they are listed.
        labels: uint8 (N, C) of 0/1; zeros where a row cannot be read.
        is_read: bool (N,), whether the label row of an image could be read.
    """

    name: str
    image_file: str
    label_file: str
    images: tuple[str, ...]
    labels: np.ndarray
    is_read: np.ndarray

    def place(self, index: int) -> str:
        """Return where an image is listed, with its path."""
        return f"{self.image_file}:{index + 1}: {self.images[index]}"

    def label_place(self, index: int) -> str:
        """Return where the labels of an image are listed, with its path."""
        return f"{self.label_file}:{index + 1}: {self.images[index]}"


def find_lists(folder: Path) -> tuple[dict[str, dict[str, Path]], list[Fault]]:
    """Find the lists of a folder.

    Args:
        folder: has `<split>_img.txt` and `<split>_label.txt`, or such names after the name of a data set and `_`, for
            several in one folder; each plain or gzipped (`.txt.gz`).

    Returns:
        data set ("" without a name) -> list ("train_img", ...) -> file, and what looks like a list and is none.
    """
    found: dict[str, dict[str, Path]] = {}
    faults = []
    for file in sorted(folder.iterdir()):
        if match := LIST_NAME.fullmatch(file.name):
            lists = found.setdefault(match["data_set"], {})
            if match["list"] in lists:
                faults.append(Fault(WARNING, f"{file.name}: not read, as {lists[match['list']].name} is. Keep one."))
            lists.setdefault(match["list"], file)
        elif LIKE_A_LIST.fullmatch(file.name):
            faults.append(
                Fault(WARNING, f"{file.name}: not read. Lists are named <split>_img.txt and <split>_label.txt.")
            )
    return found, faults


def read_listed_split(lists: dict[str, Path], data_set: str, name: str) -> tuple[ListedSplit | None, list[Fault]]:
    """Read one split of a data set.

    Args:
        lists: the lists of the data set, as `find_lists` gives them.
        data_set: the beginning of their names.
        name: "train", "database" or "test".

    Returns:
        The split, or None where it has no readable image list, and every fault of its two lists.
    """
    lines, faults = {}, []
    for kind in ("img", "label"):
        file = lists.get(f"{name}_{kind}")
        if file is None:
            faults.append(Fault(ERROR, f"{data_set}{name}_{kind}.txt: missing. Every split needs both lists."))
            continue
        try:
            lines[kind] = read_lines(file)
        except (DataError, OSError) as error:
            faults.append(Fault(ERROR, str(error)))
    images = tuple(lines.get("img", ()))
    if not images:
        if "img" in lines:
            faults.append(Fault(ERROR, f"{lists[f'{name}_img'].name}: the list is empty."))
        return None, faults
    image_file = lists[f"{name}_img"].name
    if blank := [f"{image_file}:{i + 1}" for i, image in enumerate(images) if not image]:
        faults.append(
            Fault(ERROR, f"{image_file}: {len(blank):,} blank lines. Remove them, in both lists.", tuple(blank))
        )
    label_file = lists[f"{name}_label"].name if "label" in lines else ""
    rows = lines.get("label", [])
    if label_file and len(rows) != len(images):
        text = (
            f"{label_file} has {len(rows):,} lines and {image_file} has {len(images):,}. They must have one line for "
            "each image, in one order; which labels are whose is not known."
        )
        faults.append(Fault(ERROR, text))
    labels, is_read, row_faults = _parse_rows(label_file, rows, len(images))
    return ListedSplit(name, image_file, label_file, images, labels, is_read), faults + row_faults


def _parse_rows(file: str, lines: Sequence[str], count: int) -> tuple[np.ndarray, np.ndarray, list[Fault]]:
    """Parse label rows of the commonest width; others stay zero and unread."""
    rows = [line.split() for line in lines]
    widths = Counter(map(len, rows))
    width = widths.most_common(1)[0][0] if rows else 0
    labels, is_read = np.zeros((count, width), np.uint8), np.zeros(count, bool)
    misshapen, strange = [], []
    for i, row in enumerate(rows):
        if len(row) != width or not row:
            misshapen.append(f"{file}:{i + 1}: {len(row)} values")
        elif others := set(row) - {"0", "1"}:
            strange.append(f"{file}:{i + 1}: {sorted(others)[0]!r}")
        elif i < count:
            labels[i] = np.frombuffer("".join(row).encode(), np.uint8) - ord("0")
            is_read[i] = True
    faults = []
    if misshapen:
        text = f"{file}: {len(misshapen):,} rows are not of {width} values as most are. Each needs one 0 or 1 a class."
        faults.append(Fault(ERROR, text, tuple(misshapen)))
    if strange:
        faults.append(Fault(ERROR, f"{file}: {len(strange):,} rows contain other values than 0 and 1.", tuple(strange)))
    return labels, is_read, faults
