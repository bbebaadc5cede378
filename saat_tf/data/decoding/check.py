"""Whether the image files of a data set can be read: looked at once, before a run, by what an encoder refuses."""

import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from saat_tf.data.decoding.files import read_file
from saat_tf.data.decoding.tolerant_decode import decoding_fault
from saat_tf.data.list_format import ImageLists
from saat_tf.progress import Track, silent
from saat_tf.text_lists import DataError

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class UnreadableImage:
    """A line of a list whose image cannot be read.

    Args:
        split: "train", "database" or "test".
        line: line of the image in the list, counted from 1.
        path: the file.
        fault: what is wrong with it.
    """

    split: str
    line: int
    path: Path
    fault: str

    def __str__(self) -> str:
        return f"{self.split}_img.txt:{self.line}: cannot read {self.path}: {self.fault}."


def check_images(lists: ImageLists, track: Track = silent, *, skip: bool = False) -> list[UnreadableImage]:
    """Decode every image of every split once, so that no unreadable file ends a run half-way.

    Args:
        lists: the data set.
        track: shows progress.
        skip: return the lines whose images cannot be read, for `drop_images`, instead of raising.

    Returns:
        The unreadable lines in the order of the lists; none where all can be read.

    Raises:
        DataError: without `skip`, an image is truncated, is no image, is of another format, or is refused by its header
            as docs/images.md says; the message names the list, the line and the file.
    """
    places: dict[Path, list[tuple[str, int]]] = {}
    for images in (lists.train, lists.database, lists.test):
        for path, line in zip(images.paths, images.lines, strict=True):
            places.setdefault(path, []).append((images.name, line))
    unreadable = []
    with contextlib.closing(image_faults(list(places), track)) as faults:
        for path, fault in faults:
            found = [UnreadableImage(split, line, path, fault) for split, line in places[path] if fault]
            if found and not skip:
                raise DataError(f"{found[0]} Replace it, or drop its lines.")
            unreadable += found
    return unreadable


def drop_images(lists: ImageLists, unreadable: Sequence[UnreadableImage]) -> ImageLists:
    """Return the lists without the lines that `check_images` found.

    Raises:
        DataError: no image is left in a split.
    """
    gone = {(item.split, item.line) for item in unreadable}
    kept = {}
    for split in (lists.train, lists.database, lists.test):
        places = [i for i, line in enumerate(split.lines) if (split.name, line) not in gone]
        if not places:
            raise DataError(f"{split.name}_img.txt: none of its {len(split.lines)} images can be read. Restore them.")
        kept[split.name] = split.take(places)
    return ImageLists(**kept)


def image_faults(
    paths: Sequence[Item], track: Track = silent, *, read: Callable[[Any], tuple[bytes, str | None]] = read_file
) -> Generator[tuple[Item, str | None], None, None]:
    """Decode image files, all cores at a time.

    Close it where it is left half-way; it then waits for the files in work.

    Args:
        paths: the files.
        track: shows progress.
        read: item of `paths` -> its contents and None, or nothing and why it was not read.

    Yields:
        Each file in order, and what is wrong with it, or None.
    """

    def fault_of(item: Item) -> str | None:
        contents, fault = read(item)
        return fault or decoding_fault(contents)

    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        yield from track(zip(paths, pool.map(fault_of, paths), strict=True), len(paths), "Checking images")
    finally:
        pool.shutdown(cancel_futures=True)
