"""Checks of a data set before anything is trained on it."""

import os

import rich.markup

from saat_tf.data import RetrievalData
from saat_tf.data.label_rules import label_faults
from saat_tf.data.record_copies import record_copy_faults
from saat_tf.data.split_rules import Fault, Rows, copy_faults, raise_errors
from trainers.console.output import say, track
from trainers.recipes.file_data import FileData


def check_data(data: RetrievalData) -> None:
    """Say what is wrong with the labels of a data set, and which queries are copied in other splits.

    Raises:
        DataError: nothing can be learned from it, or nothing measured.
    """
    splits = {"train": data.train, "database": data.database, "test": data.test}
    files = {name: f"{name}_label.txt" if isinstance(data, FileData) else name for name in splits}
    faults = list(
        label_faults(
            {name: split.labels for name, split in splits.items()}, files, lambda split, row: _place(data, split, row)
        )
    )
    raise_errors(faults)
    faults += copied_queries(data)
    for fault in faults:
        say(rich.markup.escape(f"{fault.level}: {fault}"))


def copied_queries(data: RetrievalData) -> list[Fault]:
    """Find the queries that are copied in another split, of image files and of TFRecord files."""
    if not isinstance(data, FileData):
        splits = {"train": data.train, "database": data.database, "test": data.test}
        packed = {name: split for name, split in splits.items() if split.lengths is not None}
        return list(record_copy_faults(packed, track))
    rows = {}
    for images in (data.lists.train, data.lists.database, data.lists.test):
        keys = [os.path.realpath(path) for path in images.paths]
        rows[images.name] = Rows(f"{images.name}_img.txt", [path.name for path in images.paths], keys, images.lines)
    return list(copy_faults(rows, track))


def _place(data: RetrievalData, split: str, row: int) -> str:
    if not isinstance(data, FileData):
        return f"{split}: image {row + 1}"
    images = getattr(data.lists, split)
    return f"{split}_label.txt:{images.lines[row]}: {images.paths[row].name}"
