"""Files that stay when the process or the machine does not, and checksums that tell whether they did.

Nothing of saat_tf is imported here, since it brings TensorFlow, which a search does not need.
"""

import contextlib
import fcntl
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

CHUNK = 1 << 22


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, have reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file or a folder of files beside `path`, and give it its name once all of it is on the disk.

    Args:
        path: does not exist, or is a file.
        write: called with the temporary path.
    """
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    _remove(temporary)  # of a process of the same number that was killed
    try:
        write(temporary)
        if temporary.is_dir():
            for file in temporary.iterdir():
                sync(file)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_checksum(path: Path) -> list[int]:
    """Return a file's length in bytes and the CRC-32 of its contents."""
    length = checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            length += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
    return [length, checksum]


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system lets go of it when the process ends, however it ends.

    Raises:
        BlockingIOError: another process has it.
    """
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"{folder}: another process writes here. Wait until it has ended.") from error
        yield
