"""Image files of a folder or a list."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from saat_tf.text_lists import DataError, listed_path, read_entries

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"}
# Image formats that are not supported.
UNREAD_SUFFIXES = {".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ico", ".tga", ".ppm", ".pgm", ".pnm"}


@dataclasses.dataclass(frozen=True)
class Images:
    """Image files.

    Args:
        root: what the ids are relative to, absolute.
        ids: a path each, in normal form and without repetition; sorted, or in the order of the list.
        passed_over: sorted paths of the image files of unsupported formats in the folder.
    """

    root: Path
    ids: list[str]
    passed_over: list[str] = dataclasses.field(default_factory=list)

    def paths(self, start: int, end: int) -> list[str]:
        """Return the paths of some of them."""
        return [os.path.join(self.root, item_id) for item_id in self.ids[start:end]]


def list_images(source: Path, root: Path | None = None) -> Images:
    """List the files with an image's suffix in a folder and its folders, or the lines of a text file.

    Hidden files and folders are passed over, and links to folders are not followed.

    Args:
        source: a folder; or a list with one path a line, relative to its folder, blank lines and repetitions left out.
        root: folder that contains all images; ids are relative to it. Default: the folder, or that of the list.

    Raises:
        FileNotFoundError: `source` does not exist.
        DataError: it names no image, or a path that leaves `root`; or the list is not as `saat_tf.text_lists` reads it.
    """
    source = Path(os.path.abspath(source))
    root = source if source.is_dir() else source.parent if root is None else Path(os.path.abspath(root))
    if source.is_dir():
        files = sorted(_walk(source), key=os.fsencode)
        ids = [file for file in files if _suffix(file) in SUFFIXES]
        passed_over = [file for file in files if _suffix(file) in UNREAD_SUFFIXES]
        nothing = f"{source}: no file in it has one of the suffixes {', '.join(sorted(SUFFIXES))}."
        if passed_over:
            nothing += f" {len(passed_over)} are images of another kind, such as {passed_over[0]}. Convert them."
    elif source.is_file():
        ids, passed_over = list(dict.fromkeys(_listed(source, root))), []
        nothing = f"{source}: no line names a file. Give one path a line."
    else:
        raise FileNotFoundError(f"{source}: no such file or folder. Give a folder of images, or a list of them.")
    if not ids:
        raise DataError(nothing)
    return Images(root, ids, passed_over)


def _walk(source: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.relpath(os.path.join(folder, name), source) for name in names if name[0] != ".")


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _listed(file: Path, root: Path) -> Iterator[str]:
    for number, line in read_entries(file):
        item_id = os.path.relpath(os.path.join(file.parent, listed_path(line)), root)
        if item_id.split(os.sep)[0] == os.pardir:
            raise DataError(
                f"{file}:{number}: {line} is not in {root}. Name a folder with all images of the list by --root."
            )
        yield item_id


def digest(images: Images, start: int, end: int) -> str:
    """Hash the names, lengths and times of change of some of the files: 32 hexadecimal digits."""
    total = hashlib.sha256()
    for path in images.paths(start, end):
        try:
            status = os.stat(path)
            state = (status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            state = None
        total.update(repr((os.fsencode(path), state)).encode())
    return total.hexdigest()[:32]
