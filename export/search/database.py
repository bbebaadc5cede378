"""The SQLite database of an index: one row an item, one transaction a change. All else is a cache of it."""

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.search.items import Block, IndexDamagedError

NAME = "items.db"
APPLICATION_ID, FORMAT = 0x53414154, 1  # "SAAT"
BUSY_SECONDS = 5.0
# AUTOINCREMENT uses no number twice, so the items that are newer than a cache are those with a row > cache_last_row.
SCHEMA = f"""
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={FORMAT};
CREATE TABLE about (code_length INTEGER NOT NULL, probe_codes TEXT NOT NULL, kind TEXT NOT NULL, roots TEXT NOT NULL,
    version INTEGER NOT NULL, count INTEGER NOT NULL, cache_version INTEGER NOT NULL, cache_last_row INTEGER NOT NULL,
    cache_digest TEXT NOT NULL);
CREATE TABLE items (row INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, code BLOB NOT NULL,
    metadata TEXT NOT NULL);
CREATE TABLE removed (row INTEGER PRIMARY KEY);
"""
REMEDY = "Restore the folder from a copy, or build the index anew from the encoded folder."


class About(NamedTuple):
    """The row that says what the index is, its version, and which cache belongs to it."""

    code_length: int
    probe_codes: str
    kind: str
    roots: str
    version: int
    num_items: int
    cache_version: int
    cache_last_row: int
    cache_digest: str


def regular_file(path: Path) -> bool:
    """Return whether a file exists; raise `ValueError` when it is a link, a device or anything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is a link or no regular file, and is not opened. Build the index in a new folder.")
    return True


def connect(folder: Path, mode: str = "ro") -> sqlite3.Connection:
    """Open the database of an index: "ro" to read, "rw" to write, "rwc" to create it.

    In WAL mode readers and the one writer do not disturb each other. `synchronous=FULL` has every commit reach the disk
    before it returns; NORMAL would lose the last ones when the machine loses power.

    Raises:
        FileNotFoundError: there is no index.
        IndexDamagedError: the database is no database any more.
        ValueError: the folder is of another format, or a file in it is a link.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Build an index first: python -m export.index build.")
    path = folder / NAME
    for suffix in ("-wal", "-shm", "-journal"):
        regular_file(folder / f"{NAME}{suffix}")
    if not regular_file(path) and mode != "rwc":
        if any(folder.glob("generation-*.json")):
            raise ValueError(
                f"{folder} is an index of an older format, which lost items. Build it anew from the encoded folder: "
                "python -m export.index build."
            )
        raise FileNotFoundError(f"{folder}: this is no index; it has no {NAME}. Build one elsewhere.")
    # A file system mounted read only cannot have the files of WAL, and has no writer either.
    frozen = "&immutable=1" if os.statvfs(folder).f_flag & os.ST_RDONLY else ""
    uri = f"{path.absolute().as_uri()}?mode={mode}{frozen}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(explained(folder))
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        stack.callback(connection.close)
        for pragma in ("synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON", f"mmap_size={1 << 40}"):
            connection.execute(f"PRAGMA {pragma}")
        if mode == "rwc":
            connection.executescript(SCHEMA)
        (application,), (number,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        if application != APPLICATION_ID:
            raise IndexDamagedError(f"{path} is not the database of an index. {REMEDY}")
        if number != FORMAT:
            raise ValueError(f"{path} has format {number}, this program reads {FORMAT}. Use the version that made it.")
        if mode != "ro":
            connection.execute("PRAGMA cache_size=-200000")  # kB, for the index of many ids
        stack.pop_all()
    return connection


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn an error of SQLite into one that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BlockingIOError(f"{folder}: another process writes here. Wait until it has ended.") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise IndexDamagedError(f"{folder / NAME} is damaged ({error}). {REMEDY}") from error
        raise OSError(f"{folder / NAME}: {error}.") from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN") -> Iterator[About]:
    """Read from one version, or with "BEGIN IMMEDIATE" write as the only one: all of it or nothing."""
    connection.execute(begin)
    try:
        yield about(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def about(connection: sqlite3.Connection) -> About:
    """Read what the index is."""
    found = connection.execute("SELECT * FROM about").fetchall()
    if len(found) != 1:
        raise IndexDamagedError(f"The table about of {NAME} has {len(found)} rows, not 1. {REMEDY}")
    return About(*found[0])


def insert(connection: sqlite3.Connection, blocks: Iterable[Block], code_length: int, root: str) -> int:
    """Insert items in a writing transaction, and return how many.

    Raises:
        ValueError: codes of another length, or an id that exists already.
    """
    before, item_id = last_row(connection), ""

    def rows() -> Iterator[tuple[bytes, bytes, str]]:
        nonlocal item_id
        for block in blocks:
            block.check_length(code_length)
            for item_id, code, metadata in zip(block.ids, block.codes, block.metadata, strict=True):
                yield as_bytes(item_id), code.tobytes(), json.dumps(metadata, allow_nan=False)

    try:
        connection.executemany("INSERT INTO items (id, code, metadata) VALUES (?, ?, ?)", rows())
    except sqlite3.IntegrityError as error:
        (row,) = connection.execute("SELECT row FROM items WHERE id = ?", (as_bytes(item_id),)).fetchone()
        twice = "is given twice. Every item needs an id of its own."
        there = "is in the index already. Remove it first to replace it."
        raise ValueError(f"The id {item_id!r} {twice if row > before else there}") from error
    count = last_row(connection) - before
    roots = json.loads(about(connection).roots)
    changed = json.dumps(roots if not root or root in roots else [*roots, root])
    connection.execute("UPDATE about SET version = version + 1, count = count + ?, roots = ?", (count, changed))
    return count


def delete(connection: sqlite3.Connection, ids: list[str]) -> None:
    """Delete items in a writing transaction.

    Raises:
        ValueError: an id is not in the index.
    """
    rows = [connection.execute("SELECT row FROM items WHERE id = ?", (as_bytes(x),)).fetchone() for x in ids]
    missing = [item_id for item_id, row in zip(ids, rows, strict=True) if row is None]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(ids)} ids are not in the index, the first {missing[0]!r}. Nothing was removed."
        )
    connection.executemany("DELETE FROM items WHERE row = ?", rows)
    connection.executemany("INSERT INTO removed VALUES (?)", rows)
    connection.execute("UPDATE about SET version = version + 1, count = count - ?", (len(ids),))


def last_row(connection: sqlite3.Connection) -> int:
    """Return the largest row that an item has ever had."""
    return connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'items'").fetchone()[0]


def read_codes(connection: sqlite3.Connection, code_length: int, after: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Read the rows after one: their numbers, int64 (n,), and codes, uint8 (n, K / 8)."""
    rows, codes = bytearray(), bytearray()
    cursor = connection.execute("SELECT row, code FROM items WHERE row > ? ORDER BY row", (after,))
    while found := cursor.fetchmany(1 << 14):
        rows += np.array([row for row, _ in found], np.int64).tobytes()
        codes += b"".join(code for _, code in found)
    if len(codes) != len(rows) // 8 * (code_length // 8):
        raise IndexDamagedError(f"{NAME} has codes that are not of {code_length} bits. {REMEDY}")
    return np.frombuffer(rows, np.int64), np.frombuffer(codes, np.uint8).reshape(-1, code_length // 8)


def as_bytes(item_id: str) -> bytes:
    """Return an id as it is stored: file names may be no valid Unicode."""
    return item_id.encode("utf-8", "surrogatepass")
