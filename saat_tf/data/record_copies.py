"""Queries that stand in another split of TFRecord data as well, found by their contents: records have no names."""

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from saat_tf.data.pipeline import Split
from saat_tf.data.split_rules import Fault, Rows, digest, equal_contents
from saat_tf.progress import Track, silent


def record_copy_faults(splits: Mapping[str, Split], track: Track = silent) -> Iterator[Fault]:
    """Find queries whose image file stands in the database or the training set, byte for byte.

    Args:
        splits: of "train", "database" and "test", the queries, of which some may be missing; whole ones whose
            `lengths` are known, as `record_split` makes them.
        track: shows progress.
    """
    if "test" not in splits:
        return
    rows = {
        name: Rows(name, [f"record {i + 1}" for i in range(len(split))], [(name, i) for i in range(len(split))],
                   range(1, len(split) + 1))
        for name, split in splits.items()
    }  # fmt: skip
    yield from equal_contents(rows, _contents(splits, track))


def _contents(splits: Mapping[str, Split], track: Track) -> dict[tuple[str, int], str]:
    """Return split and row -> digest of the image files that are as long as a query and as another file."""
    sizes = {name: np.asarray(split.lengths) for name, split in splits.items()}
    lengths, counts = np.unique(np.concatenate(list(sizes.values())), return_counts=True)
    compared = np.intersect1d(lengths[counts > 1], sizes["test"])
    chosen = {name: np.flatnonzero(np.isin(of_split, compared)) for name, of_split in sizes.items()}
    candidates = ((name, row, item) for name, rows in chosen.items() for row, item in _items(splits[name], rows))
    total = sum(map(len, chosen.values()))
    return {
        (name, row): digest(contents)
        for name, row, contents in track(candidates, total, "Comparing images of one size")
    }


def _items(split: Split, rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Read some rows of a split, ascending: row and contents; nothing before the first and behind the last is read."""
    if not len(rows):
        return
    wanted = np.zeros(len(split), bool)
    wanted[rows] = True
    is_wanted = tf.constant(wanted)
    keys = split.source(int(rows[0]), int(rows[-1] - rows[0] + 1), None)
    found = keys.map(split.read).filter(lambda index, item: tf.gather(is_wanted, index))
    for index, item in found.as_numpy_iterator():
        yield int(index), item
