"""The index of one machine: SQLite and FAISS in a folder that one process may write while others read."""

import contextlib
import dataclasses
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from export.search import cache, database, kinds
from export.search.items import Block, Hit, IndexDamagedError, check_queries, find_within
from export.search.kinds import Kind
from saat_tf.files import atomic

LOG = logging.getLogger(__name__)
QUERY_BLOCK = 256
# The cache is built anew once more changes than these, and than this share of the items, are beside it.
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
        self._snapshot: cache.Snapshot | None = None
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
        """Make an index; the folder has its final name only when it is complete.

        Args:
            folder: does not exist.
            blocks: the first items.
            code_length: K, a multiple of 8.
            probe_codes: fingerprint of the model of the codes (`export.encoder.fingerprint`).
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
        about = (code_length, probe_codes, json.dumps(dataclasses.asdict(kind or Kind())), "[]", 0, 0, 0, 0, "")
        with atomic(folder) as whole, database.explained(folder):
            whole.mkdir()
            with contextlib.closing(database.connect(whole, "rwc")) as connection:
                connection.execute("BEGIN")
                connection.execute("INSERT INTO about VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", about)
                database.insert(connection, blocks, code_length, root)
                connection.execute("COMMIT")
                cache.build(whole, connection)
                connection.execute("PRAGMA journal_mode=WAL")
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
            return database.about(self._connection).num_items

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
        """
        return find_within(self.search, codes, max_distance)

    def codes(self) -> np.ndarray:
        """Read all codes in order: uint8 (N, K / 8)."""
        with self._reading():
            return database.read_codes(self._connection, self.code_length)[1]

    def check(self) -> None:
        """Read all of the database.

        Raises:
            IndexDamagedError: its pages, its index of ids, a code, metadata or the number of items are not as written.
        """
        with self._reading() as snapshot:
            wrong = (
                "SELECT 'row ' || row FROM items "
                "WHERE NOT json_valid(metadata) OR typeof(code) != 'blob' OR length(code) != ? LIMIT 1"
            )
            found = [*self._connection.execute("PRAGMA integrity_check(1)")]
            found += self._connection.execute(wrong, (self.code_length // 8,))
            faults = [fault for (fault,) in found if fault != "ok"]
            rows = np.zeros(0) if faults else database.read_codes(self._connection, self.code_length)[0]
            known = np.concatenate([np.setdiff1d(snapshot.rows[:-1], snapshot.removed), snapshot.beside_rows[:-1]])
            if faults or not np.array_equal(rows, known):
                fault = faults[0] if faults else "other rows than the cache says"
                raise IndexDamagedError(f"{self.folder / database.NAME} is damaged ({fault}). {database.REMEDY}")

    def add(self, blocks: Iterable[Block], *, root: str = "") -> int:
        """Add items and return how many: all of them, or none when it fails. When it returns they are on the disk.

        Args:
            blocks: the items.
            root: folder of their images.

        Raises:
            ValueError: codes of another length, or an id that is there already.
            BlockingIOError: another process writes.
        """
        with self._writing() as connection:
            return database.insert(connection, blocks, self.code_length, root)

    def remove(self, ids: Iterable[str]) -> int:
        """Remove items and return how many: all of them, or none when it fails. When it returns they are gone.

        Raises:
            ValueError: an id is not in the index.
            BlockingIOError: another process writes.
        """
        ids = list(dict.fromkeys(ids))
        with self._writing() as connection:
            database.delete(connection, ids)
        return len(ids)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[cache.Snapshot]:
        """Read one version: database, cache and the changes beside it."""
        with self._lock, database.explained(self.folder):
            for _ in range(3):
                with database.transaction(self._connection) as about:
                    self._snapshot = cache.read(self.folder, self._connection, about, self._snapshot)
                    if self._snapshot is not None:
                        yield self._snapshot
                        return
                # A writer may have replaced the cache since the transaction began; else it is gone or damaged.
                if database.about(self._connection).cache_digest == about.cache_digest:
                    LOG.warning("%s: the cache is gone or damaged, and is built anew.", self.folder)
                    with contextlib.closing(database.connect(self.folder, "rw")) as connection:
                        cache.build(self.folder, connection)
            raise IndexDamagedError(f"{self.folder}: the cache cannot be read. {database.REMEDY}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Be the only writer, in one transaction; build the cache anew when too much lies beside it."""
        with database.explained(self.folder), contextlib.closing(database.connect(self.folder, "rw")) as connection:
            with database.transaction(connection, "BEGIN IMMEDIATE"):
                yield connection
            try:
                about = database.about(connection)
                (removed,) = connection.execute("SELECT count(*) FROM removed").fetchone()
                changes = removed + database.last_row(connection) - about.cache_last_row
                if changes > max(CHANGES, CHANGED_SHARE * about.num_items):
                    cache.build(self.folder, connection)
            except (OSError, RuntimeError, sqlite3.OperationalError) as error:  # the change itself is committed
                LOG.warning("%s: the cache was not built anew (%s).", self.folder, error)
            connection.execute("PRAGMA busy_timeout=0")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that items.db is whole; readers may delay it

    def _hits(self, distances: np.ndarray, rows: np.ndarray) -> list[list[Hit]]:
        wanted = json.dumps(np.unique(rows).tolist())
        select = "SELECT row, id, metadata FROM items WHERE row IN (SELECT value FROM json_each(?))"
        found = self._connection.execute(select, (wanted,))
        items = {row: (item_id, metadata) for row, item_id, metadata in found}
        return [
            [_hit(*items[row], distance) for distance, row in zip(near, line, strict=True) if row >= 0]
            for near, line in zip(distances.tolist(), rows.tolist(), strict=True)
        ]


def _hit(item_id: bytes, metadata: str, distance: int) -> Hit:
    return Hit(item_id.decode("utf-8", "surrogatepass"), distance, json.loads(metadata))
