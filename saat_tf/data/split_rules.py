"""The rules that the splits of a data set must keep: one place, one wording, for validator, readers and trainers."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from saat_tf.progress import Track, silent
from saat_tf.text_lists import DataError

ERROR, WARNING = "error", "warning"
SHOWN_PLACES = 5
# The training set may well be a part of the database. A query is the one image that must stand in no other split.
REMEDIES = {
    "database": "A query that finds itself inflates the score: remove the queries from the database list; of HashNet's "
    "COCO lists choose the database 'joined', which is (database + train) - test.",
    "train": "A model that was trained on its queries is not measured: remove them from the train list.",
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something wrong with a data set.

    Args:
        level: "error" where the data set cannot be used or its scores mean nothing, else "warning".
        text: what is wrong, and the remedy.
        places: `file:line` of each occurrence with what stands there; empty where the text names the file.
    """

    level: str
    text: str
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = "".join(f"\n  {place}" for place in self.places[:SHOWN_PLACES])
        more = len(self.places) - SHOWN_PLACES
        return f"{self.text}{shown}" + (f"\n  and {more:,} more" if more > 0 else "")


@dataclasses.dataclass(frozen=True)
class Rows:
    """The images of one split.

    Args:
        file: the list that names them.
        images: as the list names them.
        keys: equal where two rows are of one image; "" where that is not known.
        lines: line of each in the list, from 1.
    """

    file: str
    images: Sequence[str]
    keys: Sequence[Any]
    lines: Sequence[int]

    def place(self, row: int) -> str:
        """Return where an image is listed, and its name."""
        return f"{self.file}:{self.lines[row]}: {self.images[row]}"


def raise_errors(faults: Iterable[Fault]) -> None:
    """Raise `DataError` for the first fault that is an error."""
    for fault in faults:
        if fault.level == ERROR:
            raise DataError(str(fault))


def query_faults(splits: Mapping[str, Rows]) -> Iterator[Fault]:
    """Find queries that stand in the database or the training set.

    Args:
        splits: of "train", "database" and "test", which contains the queries, those that there are.
    """
    for name, remedy in REMEDIES.items():
        if {"test", name} <= splits.keys():
            test, other = splits["test"], splits[name]
            where = {key: row for row, key in reversed(list(enumerate(other.keys))) if key != ""}
            shared = [(row, where[key]) for row, key in enumerate(test.keys) if key in where]
            if shared:
                text = f"{other.file}: contains {len(shared):,} of the {len(test.keys):,} queries. {remedy}"
                yield Fault(ERROR, text, _places(test, other, shared))


def copy_faults(splits: Mapping[str, Rows], track: Track = silent) -> Iterator[Fault]:
    """Find queries that stand in the database or the training set under another name, byte for byte.

    Args:
        splits: as in `query_faults`, each key the path of a file; files that are not there are passed over.
        track: shows progress.
    """
    names = [name for name in ("test", *REMEDIES) if name in splits]
    if "test" not in names:
        return
    queries = set(splits["test"].keys)
    contents = contents_of_candidates(queries, {key for name in names for key in splits[name].keys} - {""}, track)
    yield from equal_contents(splits, contents)


def equal_contents(splits: Mapping[str, Rows], contents: Mapping[Any, Hashable]) -> Iterator[Fault]:
    """Find queries whose contents stand in the database or the training set under another key.

    Args:
        splits: as in `query_faults`.
        contents: key -> what is equal where the contents are, of the keys whose contents may be a query's.
    """
    test = splits["test"]
    for name, remedy in REMEDIES.items():
        if name not in splits:
            continue
        other = splits[name]
        where = {contents[key]: row for row, key in reversed(list(enumerate(other.keys))) if key in contents}
        shared = [
            (row, where[contents[key]])
            for row, key in enumerate(test.keys)
            if key in contents and contents[key] in where and other.keys[where[contents[key]]] != key
        ]
        if shared:
            text = f"{len(shared):,} of the {len(test.keys):,} queries stand in it as copies, byte for byte."
            yield Fault(WARNING, f"{other.file}: {text} {remedy}", _places(test, other, shared))


def contents_of_candidates(queries: set[str], files: set[str], track: Track = silent) -> dict[str, Hashable]:
    """Tell which files contain the same bytes as a query or as each other, where one of them may be a query's.

    Sizes are compared first, then hard links, and only what is left is read: of 100,000 photographs some thousands.

    Args:
        queries: paths, among `files`.
        files: paths.
        track: shows progress.

    Returns:
        path -> a key that is equal where the contents are, for files as long as a query.
    """
    states = {file: state for file in files if (state := _state(file)) is not None}
    sizes = {states[query].st_size for query in queries if query in states} - {0}
    links: dict[tuple[int, int], list[str]] = {}
    for file in sorted(states):
        if states[file].st_size in sizes:
            links.setdefault((states[file].st_dev, states[file].st_ino), []).append(file)
    by_size: dict[int, list[tuple[int, int]]] = {}
    for link, linked in links.items():
        by_size.setdefault(states[linked[0]].st_size, []).append(link)
    # One inode alone of its size has nothing to be compared with.
    read = [link for same in by_size.values() if len(same) > 1 for link in same]
    digests = {}
    for link in track(read, len(read), "Comparing images of one size"):
        with contextlib.suppress(OSError):  # what cannot be read is named by the check of the images
            digests[link] = digest(Path(links[link][0]).read_bytes())
    return {file: digests.get(link, link) for link, linked in links.items() for file in linked}


def digest(contents: bytes) -> str:
    """Return a digest of contents, equal where they are."""
    return hashlib.blake2b(contents, digest_size=16).hexdigest()


def _state(file: str) -> os.stat_result | None:
    return os.stat(file) if os.path.isfile(file) else None


def _places(test: Rows, other: Rows, shared: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(f"{test.place(row)} ({other.file}:{other.lines[there]})" for row, there in shared)
