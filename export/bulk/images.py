"""Image files of a folder or a list."""

import dataclasses
import hashlib
import os
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}


@dataclasses.dataclass(frozen=True)
class Images:
    """Image files.

    Args:
        root: what the ids are relative to, absolute.
        ids: a path each, without repetition; sorted, or in the order of the list.
    """

    root: Path
    ids: list[str]

    def paths(self, start: int, end: int) -> list[str]:
        """Return the paths of some of them."""
        return [os.path.join(self.root, item_id) for item_id in self.ids[start:end]]


def list_images(source: Path) -> Images:
    """List the files with an image's suffix in a folder and its folders, or the lines of a text file.

    Hidden files and folders are passed over, and links to folders are not followed.

    Args:
        source: a folder; or a file with one path a line, relative to its folder, empty lines and repetitions left out.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it names no image.
    """
    source = Path(source).absolute()
    if source.is_dir():
        root, ids = source, sorted(_walk(source), key=os.fsencode)
        nothing = f"{source}: no file in it has one of the suffixes {', '.join(sorted(SUFFIXES))}."
    elif source.is_file():
        root = source.parent
        lines = os.fsdecode(source.read_bytes()).splitlines()
        ids, nothing = list(dict.fromkeys(line for line in lines if line.strip())), f"{source}: no line names a file."
    else:
        raise FileNotFoundError(f"{source}: no such file or folder. Give a folder of images, or a list of them.")
    if not ids:
        raise ValueError(nothing)
    return Images(root, ids)


def _walk(source: Path) -> list[str]:
    found = []
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (x for x in names if not x.startswith(".") and os.path.splitext(x)[1].lower() in SUFFIXES)
        found += (os.path.relpath(os.path.join(folder, name), source) for name in images)
    return found


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
