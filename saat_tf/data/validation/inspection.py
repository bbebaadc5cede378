"""Inspection of a data set in the list format: contents and faults."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from saat_tf.data.decoding.check import image_faults
from saat_tf.data.label_rules import label_faults, relevant_items
from saat_tf.data.list_format import SPLITS
from saat_tf.data.split_rules import ERROR, WARNING, Fault, Rows, copy_faults, query_faults
from saat_tf.data.validation.listed_split import ListedSplit, find_lists, read_listed_split
from saat_tf.progress import Track, silent
from saat_tf.text_lists import listed_path, read_lines

NO_LABEL_RULE = (
    "Rows without a label: such an image is relevant to none and none is relevant to it. As a query it stays in the "
    "mean and counts AP 0; in the database it is never relevant and still takes a rank; in training it is dissimilar "
    "to every other. --num-labels of a trainer drops such rows."
)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Findings in one data set.

    Args:
        name: the beginning of the names of its lists, "" where they have none.
        class_names: C names, or the numbers of the columns.
        splits: the splits that could be read, in the order train, database, test.
        distinct: the number of distinct images of each split.
        chance_map: MAP of a ranking that knows nothing, as `saat_tf.metrics.chance_map`; None without labels of both.
        faults: everything that is wrong.
    """

    name: str
    class_names: tuple[str, ...]
    splits: tuple[ListedSplit, ...]
    distinct: dict[str, int]
    chance_map: float | None
    faults: tuple[Fault, ...]


def inspect_folder(folder: Path, *, decode: bool = True, track: Track = silent) -> tuple[list[Inspection], list[Fault]]:
    """Inspect every data set in a folder; a fault stops nothing.

    Args:
        folder: as `find_lists` reads it.
        decode: look for the image files and decode each; without it the lists alone are read.
        track: shows progress of the decoding.

    Returns:
        An `Inspection` for each data set, and faults of the folder itself.
    """
    found, faults = find_lists(folder)
    if not found:
        faults.append(Fault(ERROR, f"{folder}: no <split>_img.txt and <split>_label.txt for train, database and test."))
    return [_inspect(folder, name, lists, decode, track) for name, lists in found.items()], faults


def _inspect(folder: Path, name: str, lists: dict[str, Path], decode: bool, track: Track) -> Inspection:
    read = [read_listed_split(lists, name, split) for split in SPLITS]
    splits = {split.name: split for split, _ in read if split is not None}
    faults = list(itertools.chain.from_iterable(found for _, found in read))
    resolve = os.path.realpath if decode else os.path.normpath  # without its file a link is a name like others
    keys = {
        split.name: [resolve(folder / listed_path(image)) if image else "" for image in split.images]
        for split in splits.values()
    }
    for split in splits.values():
        faults += _duplicates(split, keys[split.name])
    faults += _label_conflicts(splits, keys)
    rows = {
        name: Rows(split.image_file, split.images, keys[name], range(1, len(split.images) + 1))
        for name, split in splits.items()
    }
    faults += query_faults(rows)
    faults += _outside_database(splits, keys)
    faults += _widths(splits)
    if decode:
        faults += _image_faults(splits, keys, track)
        faults += copy_faults(rows, track)
    class_names, class_faults = _class_names(folder, name, splits)
    chance, found = _labels(splits)
    faults += [*class_faults, *found]
    distinct = {split: len({key for key in keys[split] if key}) for split in splits}
    return Inspection(name, class_names, tuple(splits.values()), distinct, chance, tuple(faults))


def _duplicates(split: ListedSplit, keys: list[str]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    places = []
    for index, key in enumerate(keys):
        if key and key in first:
            places.append(f"{split.place(index)} (also line {first[key] + 1})")
        first.setdefault(key, index)
    if places:
        text = (
            f"{split.image_file}: {len(keys):,} rows with {len(set(keys)):,} distinct images: {len(places):,} "
            "repeat an earlier row, and count twice."
        )
        yield Fault(WARNING, text, tuple(places))


def _label_conflicts(splits: dict[str, ListedSplit], keys: dict[str, list[str]]) -> Iterator[Fault]:
    first: dict[str, tuple[bytes, str]] = {}
    places = []
    for split in splits.values():
        for index in np.flatnonzero(split.is_read).tolist():
            key = keys[split.name][index]
            row, place = first.setdefault(key, (split.labels[index].tobytes(), split.label_place(index)))
            if key and row != split.labels[index].tobytes():
                places.append(f"{split.label_place(index)} (otherwise at {place.rpartition(': ')[0]})")
    if places:
        yield Fault(WARNING, f"{len(places):,} rows label an image otherwise than an earlier row does.", tuple(places))


def _outside_database(splits: dict[str, ListedSplit], keys: dict[str, list[str]]) -> Iterator[Fault]:
    """Training images should stand in the database."""
    if {"train", "database"} <= splits.keys():
        database = set(keys["database"])
        outside = [i for i, key in enumerate(keys["train"]) if key and key not in database]
        if outside:
            text = (
                f"{splits['database'].image_file}: lacks {len(outside):,} of the {len(keys['train']):,} train rows. "
                "The usual protocol trains on a part of the database."
            )
            yield Fault(WARNING, text, tuple(map(splits["train"].place, outside)))


def _widths(splits: dict[str, ListedSplit]) -> Iterator[Fault]:
    widths = {split.label_file: split.labels.shape[1] for split in splits.values() if split.is_read.any()}
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{file} has {width}" for file, width in widths.items())
        yield Fault(ERROR, f"Label rows differ in width between splits: {listed}. Use one set of classes.")


def _image_faults(splits: dict[str, ListedSplit], keys: dict[str, list[str]], track: Track) -> Iterator[Fault]:
    places: dict[str, list[str]] = {}
    for split in splits.values():
        for index, key in enumerate(keys[split.name]):
            if key:
                places.setdefault(key, []).append(split.place(index))
    present = [Path(key) for key in places if os.path.isfile(key)]
    if not present:
        yield Fault(
            WARNING, "None of the listed images is here: the lists alone were checked. --no-decode asks for that."
        )
        return
    missing = [place for key in sorted(places.keys() - set(map(str, present))) for place in places[key]]
    if missing:
        yield Fault(ERROR, f"{len(missing):,} rows name images that are not there. Restore them.", tuple(missing))
    unreadable = [
        f"{place}: {fault}" for path, fault in image_faults(present, track) if fault for place in places[str(path)]
    ]
    if unreadable:
        text = f"{len(unreadable):,} rows name images that cannot be read. Replace them, or drop the rows."
        yield Fault(ERROR, text, tuple(unreadable))


def _class_names(folder: Path, name: str, splits: dict[str, ListedSplit]) -> tuple[tuple[str, ...], list[Fault]]:
    """Return the names of classes.txt, or the numbers of the columns."""
    width = max((split.labels.shape[1] for split in splits.values()), default=0)
    numbers, file = tuple(f"label {column}" for column in range(width)), folder / f"{name}classes.txt"
    if not file.is_file():
        return numbers, []
    try:
        names = tuple(read_lines(file))
    except (OSError, ValueError) as error:
        return numbers, [Fault(ERROR, str(error))]
    if len(names) != width or not all(names):
        text = f"{file.name}: {len(names)} class names for {width} label columns. One name a line, one line a column."
        return numbers, [Fault(ERROR, text)]
    return names, []


def _labels(splits: dict[str, ListedSplit]) -> tuple[float | None, list[Fault]]:
    """Return the share of relevant items, averaged over queries, and what is wrong with the labels that were read."""
    read = {name: np.flatnonzero(split.is_read) for name, split in splits.items()}
    labels = {name: splits[name].labels[rows] for name, rows in read.items() if rows.size}
    if len({rows.shape[1] for rows in labels.values()}) > 1:
        return None, []
    files = {name: splits[name].label_file for name in labels}
    faults = list(label_faults(labels, files, lambda split, row: splits[split].label_place(read[split][row])))
    if not {"test", "database"} <= labels.keys():
        return None, faults
    counts = relevant_items(labels["test"], labels["database"])
    return float(counts.mean() / len(labels["database"])), faults
