"""Items of an index, results of a search, and the interface of every index."""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np


class IndexDamagedError(ValueError):
    """Files of an index are missing, truncated or changed."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Items to add to an index.

    Args:
        codes: uint8 (n, K / 8), packed.
        ids: n strings, unique in an index.
        metadata: n dictionaries of values that JSON has.
    """

    codes: np.ndarray
    ids: Sequence[str]
    metadata: Sequence[dict]

    def __post_init__(self) -> None:
        if self.codes.dtype != np.uint8 or self.codes.ndim != 2:
            raise ValueError(
                "`codes` must be packed codes: uint8 of shape (items, bits / 8). Received: "
                f"{self.codes.dtype} of shape {self.codes.shape}."
            )
        if not len(self.codes) == len(self.ids) == len(self.metadata):
            raise ValueError(
                "Every item needs a code, an id and metadata. Received: "
                f"{len(self.codes)} codes, {len(self.ids)} ids, {len(self.metadata)} metadata."
            )
        for item_id in self.ids:
            if not isinstance(item_id, str) or not item_id:
                raise ValueError(f"An id must be a string that is not empty. Received: {item_id!r}.")

    def check_length(self, code_length: int) -> None:
        """Raise `ValueError` unless the codes have the length of the index."""
        if 8 * self.codes.shape[1] != code_length:
            raise ValueError(
                f"An index of {code_length} bits takes no codes of {8 * self.codes.shape[1]}. Encode the images with "
                "the model of the index."
            )


@dataclasses.dataclass(frozen=True)
class Hit:
    """One result of a search.

    Args:
        id: the item's id.
        distance: Hamming distance of its code to the query's, in bits.
        metadata: what was stored with it.
    """

    id: str
    distance: int
    metadata: dict


class SearchIndex(Protocol):
    """Interface of an index, local or remote.

    Attributes:
        code_length: K, bits of a code.
        probe_codes: fingerprint of the model of its codes (`export.encoder.fingerprint`), or "".
        roots: folders of the items' images.
    """

    code_length: int
    probe_codes: str

    @property
    def roots(self) -> list[str]:
        """Return the folders of the items' images."""

    def __len__(self) -> int:
        """Return the number of items."""

    def add(self, blocks: Iterable[Block], *, root: str = "") -> int:
        """Add items; return how many. When it returns, they are on the disk."""

    def remove(self, ids: Iterable[str]) -> int:
        """Remove items; return how many."""

    def search(self, codes: np.ndarray, top_k: int) -> list[list[Hit]]:
        """Return the nearest items of each query, nearest first."""

    def search_within(self, codes: np.ndarray, max_distance: int) -> list[list[Hit]]:
        """Return all items of each query within a distance, nearest first."""


def check_queries(codes: np.ndarray, top_k: int, code_length: int) -> int:
    """Return `top_k` as an int; raise `ValueError` unless `codes` fit an index of `code_length` bits."""
    codes = np.asarray(codes)
    if codes.dtype != np.uint8 or codes.ndim != 2 or 8 * codes.shape[1] != code_length:
        raise ValueError(
            f"Queries must be packed codes of {code_length} bits: uint8 of shape (queries, {code_length // 8}). "
            f"Received: {codes.dtype} of shape {codes.shape}. Encode them with the model of the index."
        )
    return _whole_number("top_k", top_k, 1)


def find_within(
    search: Callable[[np.ndarray, int], list[list[Hit]]], codes: np.ndarray, max_distance: int, limit: int = 2**31 - 1
) -> list[list[Hit]]:
    """Return all items of each query within a distance: search with a growing k until the last result is too far.

    Args:
        search: of an index.
        codes: uint8 (Q, K / 8), packed.
        max_distance: in bits, at least 0; itself included.
        limit: how many items `search` finds at most.

    Raises:
        ValueError: a wrong distance, or more than `limit` items are that near.
    """
    max_distance = _whole_number("max_distance", max_distance, 0)
    top_k, pending = min(100, limit), list(range(len(codes)))
    found: dict[int, list[Hit]] = {}
    while True:
        found |= zip(pending, search(codes[pending], top_k), strict=True)
        pending = [i for i in pending if len(found[i]) == top_k and found[i][-1].distance <= max_distance]
        if not pending:
            return [[hit for hit in found[i] if hit.distance <= max_distance] for i in range(len(codes))]
        if top_k == limit:
            raise ValueError(f"More than {limit} items are that near, and no more are found. Ask for less.")
        top_k = min(4 * top_k, limit)


def _whole_number(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ValueError(f"`{name}` must be a whole number. Received: {value!r}.") from error
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {number}.")
    return number
