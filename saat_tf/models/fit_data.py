"""What `fit`, `evaluate` and `adapt` take, in one form: checked batches of (images, labels, index)."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from saat_tf.batches import KINDS, Check, checked_arrays, checked_batches, is_array, parts_of
from saat_tf.models.bank_rows import BankRows

NOT_TAKEN = {
    "sample_weight": "Leave out what is not to be learnt from.",
    "class_weight": "Leave out what is not to be learnt from.",
    "validation_split": "Give the images of the end by `validation_data`, and `adapt` to the others alone.",
}


def refuse_options(options: dict) -> None:
    """Refuse options of `keras.Model.fit` that these models would read as something else.

    Raises:
        ValueError: one of them is given.
    """
    for name, remedy in NOT_TAKEN.items():
        if options.get(name) is not None and not (name == "validation_split" and options[name] == 0):
            raise ValueError(f"`{name}` is not taken by this model. Received: one. {remedy}")


def with_index(data: Any, check: Check, rows: Callable[[], BankRows] | None) -> Any:
    """Return batches (images, labels, index) of what `fit` is given in place of arrays.

    Args:
        data: see `saat_tf.batches.KINDS`; a `keras.utils.PyDataset` of triples and a distributed data set are returned
            as they are.
        check: of batches.
        rows: gives batches without an index their rows; None where they stay without one.

    Raises:
        ValueError: it is something else, or its batches are.
    """
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == 0:
            raise ValueError("A data set must have items. Received: none. Look at what it was selected by.")
        batches = checked_batches(data, check)
        if len(batches.element_spec) == 3 or rows is None:
            return batches
        bank_rows = rows()

        def take(taken: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple:
            taken, index = bank_rows.take(taken, batch[1])
            return taken, (*batch, index)

        # The iterator keeps how many were taken, so that what has no end goes through the rows again and again.
        indexed = batches.scan(bank_rows.none_taken(), tf.autograph.experimental.do_not_convert(take))
        count = batches.cardinality()
        return (
            indexed
            if count < tf.data.INFINITE_CARDINALITY
            else indexed.apply(tf.data.experimental.assert_cardinality(count))
        )
    if isinstance(data, keras.utils.PyDataset):
        if len(parts_of(data[0])) != 3 and rows is not None:
            raise ValueError(
                "A `PyDataset` must give batches of (images, labels, index), since it knows which items they are. "
                "Received: batches of (images, labels)."
            )
        return data
    if isinstance(data, tf.distribute.DistributedDataset):
        return data
    if hasattr(data, "__next__"):
        return _generated(data, check, rows)
    raise ValueError(f"{KINDS} Received: {type(data).__name__}.")


def _generated(data: Iterator, check: Check, rows: Callable[[], BankRows] | None) -> Iterator[tuple]:
    bank_rows = taken = None
    for batch in data:
        images, labels, *index = check(*parts_of(batch))
        if not index and rows is not None:
            if bank_rows is None:
                bank_rows = rows()
                taken = bank_rows.none_taken()
            taken, row = bank_rows.take(taken, labels)
            index = [row]
        yield (images, labels, *index)


def all_batches(x: Any, y: Any, check: Check, *, batch_size: int, steps: int | None) -> Iterator[tuple[tf.Tensor, ...]]:
    """Yield the checked batches of a whole data set once: (images, labels) or (images, labels, index).

    Args:
        x: images in memory, or as `with_index` takes it, without an end where `steps` says how many to read.
        y: labels in memory.
        check: of batches.
        batch_size: images a batch, of arrays.
        steps: batches to read; all by default.

    Raises:
        ValueError: it is something else, has no end, or no items.
    """
    if is_array(x):
        x, y = checked_arrays(x, y, check)
        starts = range(0, len(x), batch_size)
        yield from ((tf.constant(x[i : i + batch_size]), tf.constant(y[i : i + batch_size])) for i in starts)
        return
    if isinstance(x, tf.data.Dataset) and x.cardinality() == tf.data.INFINITE_CARDINALITY and steps is None:
        raise ValueError("A data set without end must be read by `steps`. Received: None. Leave out `repeat`.")
    batches = map(x.__getitem__, range(len(x))) if isinstance(x, keras.utils.PyDataset) else x
    yield from itertools.islice(with_index(batches, check, None), steps)
