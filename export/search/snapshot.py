"""What is searched: the cache, and beside it the changes that the database has seen since, exactly."""

import dataclasses
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from export.search import cache, database, kinds
from export.search.items import IndexDamagedError

NOWHERE = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class Part:
    """A FAISS index.

    Args:
        index: the FAISS index.
        rows: int64 (n,), the database's row of each place, ascending.
        removed: int64, ascending, those of them that are no longer in the index.
    """

    index: kinds.faiss.IndexBinary
    rows: np.ndarray
    removed: np.ndarray

    def __len__(self) -> int:
        return len(self.rows) - len(self.removed)

    def _rows_at(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at places, -1 where there is none or it is removed."""
        rows = np.where(places >= 0, self.rows[places], -1)
        if len(self.removed):
            nearest = np.minimum(np.searchsorted(self.removed, rows), len(self.removed) - 1)
            rows = np.where(self.removed[nearest] == rows, -1, rows)
        return rows

    def search(self, codes: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest: distances and rows, (Q, n), in order; -1 where there is none.

        FAISS knows nothing of removed rows, so it is asked for more until enough others are among them.
        """
        fetch = min(top_k + min(len(self.removed), top_k), len(self.rows))
        while True:
            distances, places = self.index.search(codes, fetch)
            rows = self._rows_at(places)
            enough = ((rows >= 0).sum(axis=1) >= top_k) | (places < 0).any(axis=1)
            if enough.all() or fetch == len(self.rows):
                return np.where(rows >= 0, distances, NOWHERE), rows
            fetch = min(2 * fetch, len(self.rows))

    def within(self, code: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray]:
        """Find all items of at most `distance` to one code: distances and rows, (n,)."""
        if isinstance(self.index, kinds.faiss.IndexBinaryHNSW):  # it has no range search
            fetch = min(100, len(self.rows))
            while True:
                distances, places = (found[0] for found in self.index.search(code[None], fetch))
                if fetch == len(self.rows) or places[-1] < 0 or distances[-1] > distance:
                    break
                fetch = min(4 * fetch, len(self.rows))
            near = (places >= 0) & (distances <= distance)
            distances, places = distances[near], places[near]
        else:
            _, distances, places = self.index.range_search(code[None], distance + 1)  # FAISS leaves the radius out
        rows = self._rows_at(places)
        return distances[rows >= 0].astype(np.int64), rows[rows >= 0]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One version of an index.

    Args:
        version: of the database.
        last_row: the last row number that it has used.
        digest: of the cache.
        parts: the cache, and a flat index of the items added since.
        beside: uint8 (n, K / 8), the codes of the latter.
    """

    version: int
    last_row: int
    digest: str
    parts: tuple[Part, Part]
    beside: np.ndarray

    @property
    def changes(self) -> int:
        """How many additions and removals lie beside the cache."""
        return len(self.beside) + len(self.parts[0].removed)

    def search(self, codes: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest items; equal distances in the order in which they were added."""
        found = [part.search(codes, top_k) for part in self.parts if len(part)]
        none = [np.empty((len(codes), 0), np.int64)] * 2
        distances, rows = (np.concatenate(x, axis=1) for x in zip(none, *found, strict=True))
        order = np.lexsort((rows, distances))[:, :top_k]
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def within(self, codes: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield distances and rows of all items near each query, in the same order."""
        for code in codes:
            found = [part.within(code, distance) for part in self.parts if len(part)]
            none = [np.empty(0, np.int64)] * 2
            distances, rows = (np.concatenate(x) for x in zip(none, *found, strict=True))
            order = np.lexsort((rows, distances))
            yield distances[order], rows[order]


def open_snapshot(folder: Path, about: database.About) -> Snapshot | None:
    """Open the cache alone; None where it is gone or damaged."""
    kind = kinds.decoded(about.kind)
    found = cache.read(folder, about, kind)
    if found is None:
        return None
    nothing, codes = np.empty(0, np.int64), np.empty((0, about.code_length // 8), np.uint8)
    parts = Part(*found, nothing), Part(kinds.flat(codes), nothing, nothing)
    return Snapshot(about.cache_version, about.cache_last_row, about.cache_digest, parts, codes)


def caught_up(snapshot: Snapshot, connection: sqlite3.Connection, about: database.About) -> Snapshot:
    """Return the version of the database that the transaction reads."""
    if snapshot.version == about.version:
        return snapshot
    cached, added = snapshot.parts
    removed = connection.execute("SELECT row FROM removed WHERE version > ? ORDER BY row", (snapshot.version,))
    removed = np.array([row for (row,) in removed], np.int64)
    new_rows, new_codes = database.read_codes(connection, about.code_length, snapshot.last_row)
    rows, codes = np.concatenate([added.rows, new_rows]), np.concatenate([snapshot.beside, new_codes])
    left = ~np.isin(rows, removed)
    gone = np.union1d(cached.removed, removed[removed <= about.cache_last_row])
    parts = dataclasses.replace(cached, removed=gone), Part(kinds.flat(codes[left]), rows[left], added.removed)
    if sum(map(len, parts)) != about.count:
        raise IndexDamagedError(f"{sum(map(len, parts))} of {about.count} items are left. {database.REMEDY}")
    return Snapshot(about.version, about.last_row, snapshot.digest, parts, codes[left])
