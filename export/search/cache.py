"""The FAISS index of the codes, on disk beside the database, and the changes that the database has seen since.

    cache-00000012.faiss    the FAISS index, of version 12 of the database
    cache-00000012.npy      int64, the row of each of its places, and -1 at the end for places that FAISS leaves empty

The database names version and SHA-256 of the cache that belongs to it; any other file is removed or made again.
"""

import hashlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.search import database, kinds
from export.search.items import IndexDamagedError
from saat_tf.files import TEMPORARY, atomic

NO_DISTANCE = np.iinfo(np.int32).max


class Snapshot(NamedTuple):
    """One version of an index, to be searched.

    Args:
        version: of the database.
        digest: of the cache.
        cached: the FAISS index of the cache.
        rows: int64 (n + 1,), the row of each of its places, and -1.
        removed: int64, ascending, the rows removed since, and the largest number.
        beside: a flat index of the items added since.
        beside_rows: as `rows`.
    """

    version: int
    digest: str
    cached: kinds.faiss.IndexBinary
    rows: np.ndarray
    removed: np.ndarray
    beside: kinds.faiss.IndexBinary
    beside_rows: np.ndarray

    def search(self, codes: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest: distances and rows, (Q, n), equal distances by row; rows are -1 where there are no more."""
        found = [self._search_cached(codes, top_k), _search(self.beside, self.beside_rows, codes, top_k)]
        distances, rows = (np.concatenate(x, axis=1) for x in zip(*found, strict=True))
        distances = np.where(rows < 0, NO_DISTANCE, distances)
        order = np.lexsort((rows, distances))[:, :top_k]
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _search_cached(self, codes: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """FAISS returns removed rows too, so it is asked for more until enough others are among them."""
        fetch = top_k + min(len(self.removed) - 1, top_k)
        while True:
            distances, rows = _search(self.cached, self.rows, codes, fetch)
            gone = self.removed[np.searchsorted(self.removed, rows)] == rows
            enough = (rows < 0).any(axis=1) | ((~gone).sum(axis=1) >= top_k)
            if enough.all() or fetch >= self.cached.ntotal:
                return distances, np.where(gone, -1, rows)
            fetch *= 2


def _search(
    index: kinds.faiss.IndexBinary, rows: np.ndarray, codes: np.ndarray, top_k: int
) -> tuple[np.ndarray, np.ndarray]:
    distances, places = index.search(codes, max(1, min(top_k, index.ntotal)))
    return distances, rows[places]


def build(folder: Path, connection: sqlite3.Connection) -> None:
    """Write the cache of the newest version, and make it the current one."""
    with database.transaction(connection, "BEGIN IMMEDIATE") as about:
        rows, codes = database.read_codes(connection, about.code_length)
        _check_count(folder, len(rows), about)
        index_file, rows_file = paths = _files(folder, about.version)
        with atomic(index_file) as temporary:
            kinds.faiss.write_index_binary(kinds.build(kinds.decoded(about.kind), codes), str(temporary))
        with atomic(rows_file) as temporary, temporary.open("xb") as file:
            np.save(file, np.append(rows, -1))
        connection.execute("DELETE FROM removed")
        values = (database.last_row(connection), _digest(paths))
        connection.execute("UPDATE about SET cache_version = version, cache_last_row = ?, cache_digest = ?", values)
    with database.transaction(connection, "BEGIN IMMEDIATE") as about:
        _remove_others(folder, about.cache_version)


def read(folder: Path, connection: sqlite3.Connection, about: database.About, last: Snapshot | None) -> Snapshot | None:
    """Return the version that a transaction reads; None where its cache is gone or damaged.

    Args:
        folder: of the index.
        connection: in the transaction.
        about: as the transaction reads it.
        last: the version read before, whose files need not be read again.
    """
    if last is not None and (last.version, last.digest) == (about.version, about.cache_digest):
        return last
    if last is not None and last.digest == about.cache_digest:
        cached, rows = last.cached, last.rows
    else:
        index_file, rows_file = paths = _files(folder, about.cache_version)
        try:
            if not all(map(database.regular_file, paths)) or _digest(paths) != about.cache_digest:
                return None
            # Mapped: what no query needs is never read, and processes share what is.
            cached = kinds.faiss.read_index_binary(str(index_file), kinds.faiss.IO_FLAG_MMAP_IFC)
            rows = np.load(rows_file, mmap_mode="r")
        except FileNotFoundError:  # a writer has just replaced it
            return None
        kinds.set_effort(cached, kinds.decoded(about.kind))
    gone = connection.execute("SELECT row FROM removed WHERE row <= ? ORDER BY row", (about.cache_last_row,))
    removed = np.array([row for (row,) in gone], np.int64)
    added, codes = database.read_codes(connection, about.code_length, about.cache_last_row)
    _check_count(folder, cached.ntotal - len(removed) + len(added), about)
    removed, added = np.append(removed, np.iinfo(np.int64).max), np.append(added, -1)
    return Snapshot(about.version, about.cache_digest, cached, rows, removed, kinds.flat(codes), added)


def _check_count(folder: Path, count: int, about: database.About) -> None:
    if count != about.num_items:
        raise IndexDamagedError(f"{folder}: {count} of {about.num_items} items are left. {database.REMEDY}")


def _files(folder: Path, version: int) -> list[Path]:
    return [folder / f"cache-{version:08}{suffix}" for suffix in (".faiss", ".npy")]


def _remove_others(folder: Path, version: int) -> None:
    """Remove other caches, and what killed processes left; readers that have mapped them are not disturbed."""
    for path in {*folder.glob("cache-*"), *folder.glob(f"{TEMPORARY}cache-*")}.difference(_files(folder, version)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _digest(paths: list[Path]) -> str:
    digests = []
    for path in paths:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return " ".join(digests)
