"""Atomic writes and exclusive locks: a reader finds the old file or the new one, and never half of one."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

# What a process that was killed leaves behind begins with this name.
TEMPORARY = ".writing-"
LOCK = ".lock"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write a file or a folder atomically: fill a temporary one beside `path`, force it to the disk, rename it.

    The temporary one lies in a folder that the system makes anew under a name that nothing has, so no link is followed.

    Args:
        path: the file to write or replace, or the folder to make.

    Yields:
        The temporary path, which has the name of `path` and does not exist; the block makes the file or folder there.

    Raises:
        OSError: it cannot be written, or `path` is a folder that is not empty. Nothing of it remains.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        _sync_all(temporary)
        os.replace(temporary, path)
        sync(path.parent)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file, atomically; it is called with the temporary path (see `atomic`)."""
    with atomic(path) as temporary:
        write(temporary)


def write_bytes(path: Path, contents: bytes) -> None:
    """Write `contents`, atomically."""
    write_whole(path, lambda temporary: temporary.write_bytes(contents))


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: dict | list) -> None:
    """Write `content` as indented JSON, atomically.

    Raises:
        ValueError: it contains NaN or infinity, which are no JSON and which no reader takes. Nothing is written.
    """
    write_text(path, json_text(path, content))


def json_text(path: Path, content: dict | list) -> str:
    """Return `content` as indented JSON for the file `path`; raises as `write_json`."""
    try:
        return json.dumps(content, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise ValueError(f"{path}: not written, since NaN and infinity are no JSON ({error}).") from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(path: Path) -> None:
    if path.is_dir():
        for entry in path.iterdir():
            _sync_all(entry)
    sync(path)


def lock_folder(folder: Path, *, waiting: Callable[[], None] | None = None) -> filelock.BaseFileLock:
    """Acquire the exclusive lock of a folder, which the system releases when the process ends, however it ends.

    Args:
        folder: the folder, which exists.
        waiting: where given, wait for the lock, and call this first if another process has it.

    Returns:
        The acquired lock, a context manager that releases it. It is released too when the object is deleted.

    Raises:
        BlockingIOError: another process has it, and `waiting` is not given.
        OSError: the lock file is a link, or cannot be made.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder, lock_folder(Path(folder)) as lock:
        ...     lock.is_locked
        True
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
        return lock
    except filelock.Timeout as error:
        if waiting is None:
            raise BlockingIOError(f"{folder}: another process writes here. Wait until it has ended.") from error
    waiting()
    lock.acquire()
    return lock
