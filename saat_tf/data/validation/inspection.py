"""What is in a data set in the list format, and what is wrong with it."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from saat_tf.data.decoding.check import image_faults
from saat_tf.data.list_format import SPLITS, read_lines
from saat_tf.data.validation.listed_split import ERROR, WARNING, Fault, ListedSplit, find_lists, read_listed_split
from saat_tf.metrics.retrieval import relevance
from saat_tf.progress import Track, silent

NO_LABEL_RULE = (
    "Rows without a label: such an image is relevant to none and none is relevant to it. As a query it stays in the "
    "mean and counts AP 0; in the database it is never relevant and still takes a rank; in training it is dissimilar "
    "to every other. --num-labels of a trainer drops such rows."
)
# Queries whose label sets are compared with those of the database at a time, which bounds the memory.
QUERY_GROUP = 256


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found in one data set.

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
        split.name: [resolve(folder / image) if image else "" for image in split.images] for split in splits.values()
    }
    for split in splits.values():
        faults += _duplicates(split, keys[split.name])
        faults += _unlabelled(split)
    faults += _label_conflicts(splits, keys)
    faults += _overlaps(splits, keys)
    faults += _widths(splits)
    if decode:
        faults += _image_faults(splits, keys, track)
    class_names, class_faults = _class_names(folder, name, splits)
    chance, relevance_faults = _chance(splits)
    faults += [*class_faults, *relevance_faults]
    distinct = {split: len({key for key in keys[split] if key}) for split in splits}
    return Inspection(name, class_names, tuple(splits.values()), distinct, chance, tuple(faults))


def _duplicates(split: ListedSplit, keys: list[str]) -> Iterator[Fault]:
    first, places = {}, []
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


def _unlabelled(split: ListedSplit) -> Iterator[Fault]:
    rows = split.unlabelled
    if rows.size:
        kind = {"test": "queries", "train": "train rows", "database": "database rows"}[split.name]
        text = f"{split.label_file}: {rows.size:,} of {len(split.images):,} {kind} have no label."
        yield Fault(WARNING, text, tuple(map(split.label_place, rows)))


def _label_conflicts(splits: dict[str, ListedSplit], keys: dict[str, list[str]]) -> Iterator[Fault]:
    first, places = {}, []
    for split in splits.values():
        for index in np.flatnonzero(split.is_read):
            key = keys[split.name][index]
            row, place = first.setdefault(key, (split.labels[index].tobytes(), split.label_place(index)))
            if key and row != split.labels[index].tobytes():
                places.append(f"{split.label_place(index)} (otherwise at {place.rpartition(': ')[0]})")
    if places:
        yield Fault(WARNING, f"{len(places):,} rows label an image otherwise than an earlier row does.", tuple(places))


def _overlaps(splits: dict[str, ListedSplit], keys: dict[str, list[str]]) -> Iterator[Fault]:
    """Queries must stand in no other split; training images should stand in the database."""
    where = {name: {key: i for i, key in reversed(list(enumerate(keys[name]))) if key} for name in splits}
    remedies = {
        "database": "A query that finds itself inflates the score: remove the queries from the database list.",
        "train": "A model that was trained on its queries is not measured: remove them from the train list.",
    }
    for name, remedy in remedies.items():
        if not {"test", name} <= splits.keys():
            continue
        shared = [i for i, key in enumerate(keys["test"]) if key in where[name]]
        if shared:
            other = splits[name].image_file
            places = (f"{splits['test'].place(i)} ({other}:{where[name][keys['test'][i]] + 1})" for i in shared)
            text = f"{other}: contains {len(shared):,} of the {len(keys['test']):,} queries. {remedy}"
            yield Fault(ERROR, text, tuple(places))
    if {"train", "database"} <= splits.keys():
        outside = [i for i, key in enumerate(keys["train"]) if key and key not in where["database"]]
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
    places = {}
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


def _chance(splits: dict[str, ListedSplit]) -> tuple[float | None, list[Fault]]:
    """Return the share of relevant items, averaged over queries, and what is wrong with it."""
    if not {"test", "database"} <= splits.keys():
        return None, []
    test, database = splits["test"], splits["database"]
    if not test.is_read.any() or not database.is_read.any() or test.labels.shape[1] != database.labels.shape[1]:
        return None, []
    counts = _relevant_items(test.labels[test.is_read], database.labels[database.is_read])
    chance = float(counts.mean() / database.is_read.sum())
    alone = np.flatnonzero(test.is_read)[counts == 0]
    if not alone.size:
        return chance, []
    text = (
        f"{test.image_file}: {alone.size:,} of {counts.size:,} queries have no relevant item in the database and count "
        f"AP 0: MAP is at most {1 - alone.size / counts.size:.4f}."
    )
    return chance, [Fault(WARNING, text, tuple(map(test.place, alone)))]


def _relevant_items(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    """Count the relevant items of each query: int64 (Q,). Each pair of label sets is compared once."""
    query_sets, of_query, _ = _distinct(query_labels)
    database_sets, _, occurrences = _distinct(database_labels)
    counts = [
        relevance(query_sets[i : i + QUERY_GROUP], database_sets) @ occurrences
        for i in range(0, len(query_sets), QUERY_GROUP)
    ]
    return np.concatenate(counts)[of_query]


def _distinct(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct rows, the number of each row's set, and how often each set occurs."""
    _, first, inverse, occurrences = np.unique(
        np.packbits(labels, axis=1), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    return labels[first], inverse.reshape(-1), occurrences
