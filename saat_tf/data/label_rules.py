"""Requirements on the labels of a data set: something to learn, and something to measure."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from saat_tf.data.split_rules import ERROR, WARNING, Fault
from saat_tf.metrics.retrieval import relevance

# Label sets that are compared with all others at a time, which bounds the memory.
GROUP = 256
KINDS = {"train": "train rows", "database": "database rows", "test": "queries"}


def label_faults(
    labels: Mapping[str, np.ndarray], files: Mapping[str, str], place: Callable[[str, int], str]
) -> Iterator[Fault]:
    """Find what is wrong with the labels of "train", "database" and "test", those splits that there are.

    An image without a label is relevant to none. It is an error where there is nothing to learn: no training image has
    a label, or every two share one, so that none are to become dissimilar. And where there is nothing to
    measure: no query has a relevant item, or every item is relevant to every query.

    Args:
        labels: split -> (N, C) of 0/1; all of one width.
        files: split -> name of the list of its labels.
        place: (split, row) -> where the labels of a row stand.
    """
    for split, rows in labels.items():
        bare = np.flatnonzero(~rows.any(axis=1))
        if bare.size:
            text = f"{files[split]}: {bare.size:,} of {len(rows):,} {KINDS[split]} have no label."
            yield Fault(WARNING, text, tuple(place(split, int(row)) for row in bare))
    if len(labels.get("train", ())):
        yield from _nothing_to_learn(labels["train"], files["train"])
    if len(labels.get("test", ())) and len(labels.get("database", ())):
        yield from _relevance_faults(labels["test"], labels["database"], files["test"], place)


def relevant_items(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    """Count the relevant items of each query: int64 (Q,). Each pair of label sets is compared once."""
    query_sets, of_query, _ = _distinct(query_labels)
    database_sets, _, occurrences = _distinct(database_labels)
    counts = [
        relevance(query_sets[i : i + GROUP], database_sets) @ occurrences for i in range(0, len(query_sets), GROUP)
    ]
    return np.concatenate(counts)[of_query]


def _nothing_to_learn(labels: np.ndarray, file: str) -> Iterator[Fault]:
    sets, _, _ = _distinct(labels)
    if not labels.any():
        yield Fault(ERROR, f"{file}: none of the {len(labels):,} train rows has a label: there is nothing to learn.")
    elif all(relevance(sets[i : i + GROUP], sets).all() for i in range(0, len(sets), GROUP)):
        text = f"{file}: every two of the {len(labels):,} train rows share a label: none can become dissimilar."
        yield Fault(ERROR, f"{text} Add images, or label columns, that divide them.")


def _relevance_faults(
    query_labels: np.ndarray, database_labels: np.ndarray, file: str, place: Callable[[str, int], str]
) -> Iterator[Fault]:
    counts = relevant_items(query_labels, database_labels)
    alone = np.flatnonzero(counts == 0)
    if alone.size == counts.size:
        yield Fault(ERROR, f"{file}: no query has a relevant item in the database: MAP is 0 whatever the codes are.")
    elif alone.size:
        text = (
            f"{file}: {alone.size:,} of {counts.size:,} queries have no relevant item in the database and count AP 0: "
            f"MAP is at most {1 - alone.size / counts.size:.4f}."
        )
        yield Fault(WARNING, text, tuple(place("test", int(row)) for row in alone))
    elif (counts == len(database_labels)).all():
        yield Fault(ERROR, f"{file}: every database item is relevant to every query: MAP is 1 whatever the codes are.")


def _distinct(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct rows, the number of each row's set, and how often each set occurs."""
    _, first, inverse, occurrences = np.unique(
        np.packbits(labels.astype(bool), axis=1), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    return labels[first], inverse.reshape(-1), occurrences
