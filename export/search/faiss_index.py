"""The index of one machine: SQLite and FAISS in a folder that one process may write while others read."""

import contextlib
import dataclasses
import json
import logging
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from export.search import cache, database, kinds
from export.search.items import Block, Hit, IndexDamagedError, check_distance, check_queries
from export.search.kinds import Kind
from export.search.snapshot import Snapshot, caught_up, open_snapshot
from saat_tf.durable import sync

LOG = logging.getLogger(__name__)
QUERY_BLOCK = 256
# The cache is built anew once more changes than these, and than this share of the items, lie beside it.
CHANGES, CHANGED_SHARE = 10_000, 1 / 32


class FaissIndex:
    """Items on disk, searched by FAISS; a `SearchIndex`.

    Every call answers from one version, the newest. Threads may share an object; a forked process opens its own.
    Adding many items at a time is cheaper than adding them one by one.

    Args:
        folder: of the index, as `create` left it.

    Raises:
        FileNotFoundError: there is no index.
        IndexDamagedError: the database is damaged.
        ValueError: the folder is of another format, or a file in it is a link.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._connection = database.connect(self.folder)
        try:
            with self._reading():
                about = database.about(self._connection)
        except BaseException:
            self.close()
            raise
        self.code_length, self.probe_codes = about.code_length, about.probe_codes
        self.kind = kinds.decoded(about.kind)

    @classmethod
    def create(
        cls,
        folder: Path,
        blocks: Iterable[Block],
        *,
        code_length: int,
        probe_codes: str = "",
        kind: Kind | None = None,
        root: str = "",
    ) -> "FaissIndex":
        """Make an index; the folder appears under its name when it is whole.

        Args:
            folder: does not exist.
            blocks: the first items.
            code_length: K, a multiple of 8.
            probe_codes: what the model of the codes answers to drawn images (`export.encoder.fingerprint`).
            kind: flat by default.
            root: folder of the items' images; a page shows no picture from elsewhere.

        Raises:
            FileExistsError: the folder exists.
            ValueError: codes of another length, or an id twice.
        """
        folder = Path(folder)
        if os.path.lexists(folder):
            raise FileExistsError(f"{folder} exists, and no index is overwritten. Add to it, or choose another folder.")
        if code_length <= 0 or code_length % 8:
            raise ValueError(f"`code_length` must be a positive multiple of 8. Received: {code_length}.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".writing-{folder.name}-", dir=folder.parent) as temporary:
            whole = Path(temporary) / folder.name
            whole.mkdir()
            path, text = whole / database.NAME, json.dumps(dataclasses.asdict(kind or Kind()))
            with database.explained(folder):
                database.create(path, code_length, probe_codes, text, root, blocks)
            with contextlib.closing(database.connect(whole, write=True)) as connection:
                _build_cache(whole, connection)
            sync(path)
            sync(whole)
            os.rename(whole, folder)
            sync(folder.parent)
        return cls(folder)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def __enter__(self) -> "FaissIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._lock, database.explained(self.folder):
            return database.about(self._connection).count

    @property
    def roots(self) -> list[str]:
        """Folders of the items' images."""
        with self._lock, database.explained(self.folder):
            return json.loads(database.about(self._connection).roots)

    def search(self, codes: np.ndarray, top_k: int) -> list[list[Hit]]:
        """Find the nearest items of each query.

        The kind flat finds all of them; IVF and HNSW miss a part. Equal distances come in the order in which the items
        were added.

        Args:
            codes: uint8 (Q, K / 8), packed.
            top_k: how many, at least 1.

        Returns:
            For each query at most `top_k` hits, nearest first.

        Raises:
            ValueError: codes of another length.
            IndexDamagedError: an item is not as it was written.
        """
        top_k, hits = check_queries(codes, top_k, self.code_length), []
        with self._reading() as snapshot:
            for start in range(0, len(codes), QUERY_BLOCK):
                block = np.ascontiguousarray(codes[start : start + QUERY_BLOCK])
                hits += self._hits(*snapshot.search(block, top_k))
        return hits

    def search_within(self, codes: np.ndarray, max_distance: int) -> list[list[Hit]]:
        """Find all items of at most `max_distance` differing bits; of IVF and HNSW, those that they reach.

        Args:
            codes: uint8 (Q, K / 8), packed.
            max_distance: in bits, at least 0; itself included.

        Returns:
            For each query its hits, nearest first.

        Raises:
            ValueError: codes of another length.
            IndexDamagedError: an item is not as it was written.
        """
        check_queries(codes, 1, self.code_length)
        max_distance = check_distance(max_distance)
        with self._reading() as snapshot:
            found = snapshot.within(np.ascontiguousarray(codes), max_distance)
            return [self._hits([distances], [rows])[0] for distances, rows in found]

    def codes(self) -> np.ndarray:
        """Read all codes in order: uint8 (N, K / 8)."""
        with self._reading():
            return database.read_codes(self._connection, self.code_length)[1]

    def check(self) -> None:
        """Raise `IndexDamagedError` unless every page and row of the database is as it was written; reads all of it."""
        with self._reading() as snapshot:
            for (fault,) in self._connection.execute("PRAGMA integrity_check(1)"):
                if fault != "ok":
                    raise IndexDamagedError(f"{self.folder / database.NAME} is damaged ({fault}). {database.REMEDY}")
            rows, _ = database.read_codes(self._connection, self.code_length)
            if len(rows) != sum(map(len, snapshot.parts)):
                raise IndexDamagedError(f"{self.folder}: the number of rows is wrong. {database.REMEDY}")

    def add(self, blocks: Iterable[Block], *, root: str = "") -> int:
        """Add items and return how many: all of them, or none when it fails. When it returns they are on the disk.

        Args:
            blocks: the items.
            root: folder of their images.

        Raises:
            ValueError: codes of another length, or an id that is there already.
            BlockingIOError: another process writes.
        """
        with self._writing() as (connection, about):
            last = database.Row(about.last_row, b"", "", b"", 0)

            def rows() -> Iterator[database.Row]:
                nonlocal last
                for row in database.rows_of(blocks, self.code_length, about.last_row):
                    last = row
                    yield row

            try:
                connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows())
            except sqlite3.IntegrityError as error:
                twice, item_id = connection.execute("SELECT row, id FROM items WHERE id = ?", (last.id,)).fetchone()
                if twice > about.last_row:
                    message = "is given twice. Every item needs an id of its own."
                else:
                    message = "is in the index already. Remove it first to replace it."
                raise ValueError(f"The id {database.text(item_id)!r} {message}") from error
            count = last.row - about.last_row
            roots = json.loads(about.roots)
            changed = json.dumps(roots if not root or root in roots else [*roots, root])
            if count:
                values = (count, last.row, changed)
                connection.execute(
                    "UPDATE about SET version = version + 1, count = count + ?, last_row = ?, roots = ?", values
                )
        return count

    def remove(self, ids: Iterable[str]) -> int:
        """Remove items and return how many: all of them, or none when it fails. When it returns they are gone.

        Raises:
            ValueError: an id is not in the index.
            BlockingIOError: another process writes.
        """
        ids = list(dict.fromkeys(ids))
        with self._writing() as (connection, about):
            select = "SELECT row FROM items WHERE id = ?"
            rows = [connection.execute(select, (database.as_bytes(item_id),)).fetchone() for item_id in ids]
            missing = [item_id for item_id, row in zip(ids, rows, strict=True) if row is None]
            if missing:
                raise ValueError(
                    f"{len(missing)} of {len(ids)} ids are not in the index, the first {missing[0]!r}. Nothing was "
                    "removed."
                )
            connection.executemany("DELETE FROM items WHERE row = ?", rows)
            marked = ((*row, about.version + 1) for row in rows)
            connection.executemany("INSERT INTO removed VALUES (?, ?)", marked)
            if ids:
                connection.execute("UPDATE about SET version = version + 1, count = count - ?", (len(ids),))
        return len(ids)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Snapshot]:
        """Read one version: database, cache and the changes beside it."""
        with self._lock, database.explained(self.folder):
            repaired = False
            while True:
                with database.transaction(self._connection) as about:
                    if self._snapshot is None or self._snapshot.digest != about.cache_digest:
                        self._snapshot = open_snapshot(self.folder, about)
                    if self._snapshot is not None:
                        self._snapshot = caught_up(self._snapshot, self._connection, about)
                        yield self._snapshot
                        return
                # A writer may have replaced the cache since the transaction began; else it is gone or damaged.
                if database.about(self._connection).cache_digest == about.cache_digest:
                    if repaired:
                        raise IndexDamagedError(f"{self.folder}: the cache cannot be read. {database.REMEDY}")
                    LOG.warning("%s: the cache is gone or damaged, and is built anew.", self.folder)
                    with contextlib.closing(database.connect(self.folder, write=True)) as connection:
                        _build_cache(self.folder, connection)
                    repaired = True

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, database.About]]:
        """Be the only writer, in one transaction; build the cache anew when too much lies beside it."""
        with database.explained(self.folder):
            with contextlib.closing(database.connect(self.folder, write=True)) as connection:
                with database.transaction(connection, "BEGIN IMMEDIATE") as about:
                    yield connection, about
                try:
                    with self._reading() as snapshot:
                        changes, count = snapshot.changes, sum(map(len, snapshot.parts))
                    if changes > max(CHANGES, CHANGED_SHARE * count):
                        _build_cache(self.folder, connection)
                except (OSError, RuntimeError) as error:  # the change is committed, and searched beside the old cache
                    LOG.warning("%s: the cache was not built anew (%s).", self.folder, error)
                connection.execute("PRAGMA busy_timeout=0")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that items.db is whole; readers may delay it

    def _hits(self, distances: Sequence, rows: Sequence) -> list[list[Hit]]:
        wanted = json.dumps(sorted({int(row) for line in rows for row in line if row >= 0}))
        select = "SELECT * FROM items WHERE row IN (SELECT value FROM json_each(?))"
        items = {item.row: item for item in database.checked(self._connection.execute(select, (wanted,)))}
        try:
            return [
                [
                    Hit(database.text(items[row].id), distance, json.loads(items[row].metadata))
                    for distance, row in zip(np.asarray(near).tolist(), np.asarray(line).tolist(), strict=True)
                    if row >= 0
                ]
                for near, line in zip(distances, rows, strict=True)
            ]
        except KeyError as error:
            raise IndexDamagedError(f"{self.folder}: row {error} is gone. {database.REMEDY}") from error


def _build_cache(folder: Path, connection: sqlite3.Connection) -> None:
    with database.explained(folder):
        with database.transaction(connection, "BEGIN IMMEDIATE"):
            cache.build(folder, connection)
        with database.transaction(connection, "BEGIN IMMEDIATE") as about:
            cache.clean(folder, about.cache_version)
