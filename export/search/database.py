"""The SQLite database of an index: one row an item, one transaction a change. It is the truth; all else is a cache."""

import contextlib
import json
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.search.items import Block, IndexDamagedError

NAME = "items.db"
APPLICATION_ID, FORMAT = 0x53414154, 1  # "SAAT"
BUSY_SECONDS = 5.0
FETCH = 1 << 14
# Rows are numbered upwards and no number is used again, so what is newer than a cache is `row > cache_last_row`.
SCHEMA = {
    "about": "CREATE TABLE about (one INTEGER PRIMARY KEY CHECK (one = 1), code_length INTEGER NOT NULL, "
    "probe_codes TEXT NOT NULL, kind TEXT NOT NULL, roots TEXT NOT NULL, version INTEGER NOT NULL, "
    "count INTEGER NOT NULL, last_row INTEGER NOT NULL, cache_version INTEGER NOT NULL, "
    "cache_last_row INTEGER NOT NULL, cache_digest TEXT NOT NULL)",
    "items": "CREATE TABLE items (row INTEGER PRIMARY KEY, id BLOB NOT NULL, metadata TEXT NOT NULL, "
    "code BLOB NOT NULL, checksum INTEGER NOT NULL)",
    "removed": "CREATE TABLE removed (row INTEGER PRIMARY KEY, version INTEGER NOT NULL)",
    "item_ids": "CREATE UNIQUE INDEX item_ids ON items (id)",
}
REMEDY = "Restore the folder from a copy, or build the index anew from the encoded folder."


class About(NamedTuple):
    """The row that says what the index is, and of which version."""

    one: int
    code_length: int
    probe_codes: str
    kind: str
    roots: str
    version: int
    count: int
    last_row: int
    cache_version: int
    cache_last_row: int
    cache_digest: str


class Row(NamedTuple):
    """An item as it is stored; `checksum` is the CRC-32 of the other columns."""

    row: int
    id: bytes
    metadata: str
    code: bytes
    checksum: int


def regular_file(path: Path) -> bool:
    """Return whether a file is there; raise `ValueError` when it is a link, a device or anything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is a link or no regular file, and is not opened. Build the index in a new folder.")
    return True


def connect(folder: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open the database of an index; readers open it read only.

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
    if not regular_file(path):
        if any(folder.glob("generation-*.json")):
            raise ValueError(
                f"{folder} is an index of an older format, which lost items. Build it anew from the encoded folder: "
                "python -m export.index build."
            )
        raise FileNotFoundError(f"{folder}: this is no index; it has no {NAME}. Build one elsewhere.")
    # A file system mounted read only has no place for the files of WAL, and nobody can write there either.
    frozen = os.statvfs(folder).f_flag & os.ST_RDONLY
    options = ("mode=rw" if write else "mode=ro") + ("&immutable=1" if frozen else "")
    with explained(folder):
        connection = _opened(f"{path.absolute().as_uri()}?{options}")
        try:
            _check_format(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _opened(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
    )
    for pragma in ("synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON", f"mmap_size={1 << 40}"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise IndexDamagedError(f"{path} is not the database of an index. {REMEDY}")
    if number != FORMAT:
        raise ValueError(f"{path} has format {number}, this program reads {FORMAT}. Use the version that made it.")
    if dict(connection.execute("SELECT name, sql FROM sqlite_master")) != SCHEMA:  # no foreign triggers or views
        raise IndexDamagedError(f"{path} has other tables than an index has. {REMEDY}")


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
    """Read from one snapshot, or with "BEGIN IMMEDIATE" write as the only one: all of it or nothing."""
    connection.execute(begin)
    try:
        yield about(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def about(connection: sqlite3.Connection) -> About:
    """Read what the index is."""
    found = connection.execute("SELECT * FROM about").fetchall()
    if len(found) != 1:
        raise IndexDamagedError(f"The table about has {len(found)} rows, not 1. {REMEDY}")
    return About(*found[0])


def create(path: Path, code_length: int, probe_codes: str, kind: str, root: str, blocks: Iterable[Block]) -> None:
    """Make a database in a folder that nobody else knows; ids are indexed at the end, which is faster."""
    with contextlib.closing(_opened(f"{path.absolute().as_uri()}?mode=rwc")) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"application_id={APPLICATION_ID}"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA user_version={FORMAT}")
        for name in ("about", "items", "removed"):
            connection.execute(SCHEMA[name])
        connection.execute("BEGIN")
        roots = json.dumps([root] if root else [])
        values = (1, code_length, probe_codes, kind, roots, 1, 0, 0, 0, 0, "")
        connection.execute(f"INSERT INTO about VALUES ({', '.join('?' * len(values))})", values)
        connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows_of(blocks, code_length, 0))
        connection.execute("UPDATE about SET (count, last_row) = (SELECT count(*), coalesce(max(row), 0) FROM items)")
        connection.execute("COMMIT")
        try:
            connection.execute(SCHEMA["item_ids"])
        except sqlite3.IntegrityError as error:
            (twice,) = connection.execute("SELECT id FROM items GROUP BY id HAVING count(*) > 1").fetchone()
            raise ValueError(f"The id {text(twice)!r} is given twice. Every item needs an id of its own.") from error
        connection.execute("PRAGMA journal_mode=WAL")


def rows_of(blocks: Iterable[Block], code_length: int, last_row: int) -> Iterator[Row]:
    """Yield the rows to insert after `last_row`."""
    for block in blocks:
        if 8 * block.codes.shape[1] != code_length:
            raise ValueError(
                f"An index of {code_length} bits takes no codes of {8 * block.codes.shape[1]}. Encode the images with "
                "the model of the index."
            )
        for item_id, metadata, code in zip(block.ids, block.metadata, block.codes, strict=True):
            last_row += 1
            # File names that are no valid Unicode are kept too. ASCII holds any string of JSON.
            values = last_row, as_bytes(item_id), json.dumps(metadata, separators=(",", ":")), code.tobytes()
            yield Row(*values, _checksum(*values))


def as_bytes(item_id: str) -> bytes:
    """Return an id as it is stored."""
    return item_id.encode("utf-8", "surrogatepass")


def text(item_id: bytes) -> str:
    """Return a stored id as a string."""
    return item_id.decode("utf-8", "surrogatepass")


def _checksum(row: int, item_id: bytes, metadata: str, code: bytes) -> int:
    return zlib.crc32(code, zlib.crc32(metadata.encode(), zlib.crc32(item_id, row & 0xFFFFFFFF)))


def checked(rows: Iterable[tuple]) -> Iterator[Row]:
    """Yield rows that are as they were written; raise `IndexDamagedError` at another one."""
    for values in rows:
        row = Row(*values)
        try:
            whole = _checksum(*row[:-1]) == row.checksum
        except (TypeError, AttributeError):
            whole = False
        if not whole:
            raise IndexDamagedError(f"Row {row.row} of {NAME} has been changed since it was written. {REMEDY}")
        yield row


def read_codes(connection: sqlite3.Connection, code_length: int, after: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Read the rows after one: their numbers, int64 (n,), and codes, uint8 (n, K / 8)."""
    cursor = connection.execute("SELECT * FROM items WHERE row > ? ORDER BY row", (after,))
    numbers, codes = [], bytearray()
    for found in iter(lambda: cursor.fetchmany(FETCH), []):
        rows = list(checked(found))
        numbers.append(np.array([row.row for row in rows], np.int64))
        codes += b"".join(row.code for row in rows)
    array = np.frombuffer(bytes(codes), np.uint8).reshape(-1, code_length // 8)
    return np.concatenate([np.empty(0, np.int64), *numbers]), array
