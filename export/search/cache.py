"""The FAISS index of the database's codes, on disk beside it: a cache, which any process can make again.

    cache-00000012.faiss    the FAISS index, of version 12 of the database
    cache-00000012.npy      int64, the row of each of its places

The database names version and SHA-256 of the cache that belongs to it. Any other file is no cache of it.
"""

import hashlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import numpy as np

from export.search import database, kinds
from export.search.kinds import Kind
from saat_tf.durable import sync

SUFFIXES = (".faiss", ".npy")


def files(folder: Path, version: int) -> list[Path]:
    """Return the paths of the cache of a version."""
    return [folder / f"cache-{version:08}{suffix}" for suffix in SUFFIXES]


def build(folder: Path, connection: sqlite3.Connection) -> None:
    """Write the cache of the database as it is; within a writing transaction, which makes it the one that counts."""
    about = database.about(connection)
    rows, codes = database.read_codes(connection, about.code_length)
    if len(rows) != about.count:
        raise database.IndexDamagedError(f"{folder}: {len(rows)} of {about.count} items are left. {database.REMEDY}")
    final = files(folder, about.version)
    with tempfile.TemporaryDirectory(prefix=".cache-", dir=folder) as temporary:  # a new name, so never a link
        written = [Path(temporary) / path.name for path in final]
        kinds.write(kinds.build(kinds.decoded(about.kind), codes), written[0])
        np.save(written[1], rows)
        digest = _digest(written)
        for path, target in zip(written, final, strict=True):
            sync(path)
            os.replace(path, target)
    sync(folder)
    connection.execute("DELETE FROM removed")
    connection.execute(
        "UPDATE about SET (cache_version, cache_last_row, cache_digest) = (version, last_row, ?)", (digest,)
    )


def clean(folder: Path, version: int) -> None:
    """Remove caches of other versions; for the one writer. Readers that have mapped them are not disturbed."""
    kept = {path.name for path in files(folder, version)}
    for path in folder.glob("cache-*"):
        if path.suffix in SUFFIXES and path.name not in kept:
            path.unlink(missing_ok=True)
    for path in folder.glob(".cache-*"):  # of a process that was killed
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def read(folder: Path, about: database.About, kind: Kind) -> tuple[kinds.faiss.IndexBinary, np.ndarray] | None:
    """Map the cache of the database into memory: FAISS index and rows; None where it is gone or damaged."""
    paths = files(folder, about.cache_version)
    if not all(map(database.regular_file, paths)) or _digest(paths) != about.cache_digest:
        return None
    return kinds.read(kind, paths[0]), np.load(paths[1], mmap_mode="r" if paths[1].stat().st_size > 128 else None)


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()
