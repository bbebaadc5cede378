"""A data set before it is split: its images, their labels, and names that are the same wherever the images lie."""

import dataclasses
import itertools
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saat_tf.files import write_bytes
from saat_tf.progress import Track, silent
from saat_tf.text_lists import DataError, File

# Bounds on what an archive may contain: MIRFLICKR-25K has images below 1 MB and 3 GB in all.
MAX_FILE_BYTES, MAX_ARCHIVE_BYTES = 2**26, 2**35
SHOWN_MISSING = 20


@dataclasses.dataclass(frozen=True)
class LabeledImages:
    """Images and labels in the order of their ids.

    Args:
        ids: N distinct names, sorted; a split depends on them alone.
        files: N image files, `pathlib.Path` or inside an archive `zipfile.Path`.
        labels: uint8 (N, C) of 0/1.
        class_names: C names, the label columns in their order.
        skipped: ids of the images that were left out because their files are missing.

    Example:
        >>> images = LabeledImages.ordered(
        ...     ["b.jpg", "a.jpg"], [Path("b.jpg"), Path("a.jpg")], np.uint8([[0, 1], [1, 1]]), ("cat", "dog"))
        >>> images.ids, images.labels.tolist()
        (('a.jpg', 'b.jpg'), [[1, 1], [0, 1]])
    """

    ids: tuple[str, ...]
    files: tuple[File, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def ordered(
        cls, ids: Sequence[str], files: Sequence[File], labels: np.ndarray, class_names: Sequence[str]
    ) -> "LabeledImages":
        """Make one from rows in any order.

        Raises:
            DataError: two images have one id.
        """
        order = sorted(range(len(ids)), key=ids.__getitem__)
        for first, second in itertools.pairwise(order):
            if ids[first] == ids[second]:
                raise DataError(f"two images are named {ids[first]}. Each must be named once.")
        return cls(tuple(ids[i] for i in order), tuple(files[i] for i in order), labels[order], tuple(class_names))

    def present(self, *, skip_missing: bool) -> "LabeledImages":
        """Return the images whose files exist.

        Args:
            skip_missing: leave the others out and name them in `skipped`; otherwise they are an error.

        Raises:
            DataError: files are missing; the message counts them and lists the first.
        """
        there = [file.is_file() for file in self.files]
        kept = [i for i, is_there in enumerate(there) if is_there]
        missing = [i for i, is_there in enumerate(there) if not is_there]
        if missing and not skip_missing:
            shown = "".join(f"\n  {self.files[i]}" for i in missing[:SHOWN_MISSING])
            more = f"\n  and {len(missing) - SHOWN_MISSING:,} more" if len(missing) > SHOWN_MISSING else ""
            raise DataError(
                f"{len(missing):,} of {len(self):,} images are missing:{shown}{more}\n"
                "Restore them, or leave them out by --skip-missing, which lists them; the split is then another one."
            )
        if not kept:
            raise DataError("no image is left: every file is missing. Check where the images lie.")
        return LabeledImages(
            tuple(self.ids[i] for i in kept),
            tuple(self.files[i] for i in kept),
            self.labels[kept],
            self.class_names,
            tuple(self.ids[i] for i in missing),
        )

    def on_disk(self, folder: Path, track: Track = silent) -> "LabeledImages":
        """Return the same images as files: those inside an archive are written to `folder`, named by their ids.

        Args:
            folder: where to write; made where it is needed.
            track: shows progress.
        """
        packed = [i for i, file in enumerate(self.files) if not isinstance(file, Path)]
        files = list(self.files)
        for i in track(packed, len(packed), "Unpacking images"):
            folder.mkdir(exist_ok=True)
            file = folder / self.ids[i].rpartition("/")[2]
            write_bytes(file, read_contents(self.files[i]))
            files[i] = file
        return dataclasses.replace(self, files=tuple(files))


def find_folder(root: Path, places: Sequence[str], missing: str, *, containing: str | None = None) -> File:
    """Return the first of several places, in a folder or in an archive in it, that there is.

    Args:
        root: the user's folder.
        places: "images", or "images.zip/images" for a folder inside an archive, "images.zip/" for all of it.
        missing: the message where there is none, which says how to get it.
        containing: only a place that has this file.

    Raises:
        DataError: there is none, or an archive is damaged or contains more than is allowed.
    """
    for place in places:
        archive, is_archive, inside = place.partition(".zip/")
        if not is_archive:
            folder: File = root / place
        elif (root / f"{archive}.zip").is_file():
            folder = _open_archive(root / f"{archive}.zip")
            folder = folder / inside if inside else folder
        else:
            continue
        if folder.is_dir() and (containing is None or (folder / containing).is_file()):
            return folder
    raise DataError(f"{root}: {missing}")


def read_contents(file: File) -> bytes:
    """Read a file, in a folder or in an archive.

    Raises:
        DataError: its archive is damaged there.
    """
    try:
        return file.read_bytes()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{file}: cannot be unpacked ({error}). Fetch the archive again.") from error


def _open_archive(path: Path) -> zipfile.Path:
    """Open an archive to read from: nothing of it is written, so no name in it can lead elsewhere."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{path}: not a whole zip archive ({error}). Fetch it again.") from error
    # zipfile reads no more of an entry than its header states.
    sizes = [entry.file_size for entry in archive.infolist()]
    if max(sizes, default=0) > MAX_FILE_BYTES or sum(sizes) > MAX_ARCHIVE_BYTES:
        raise DataError(
            f"{path}: its files are up to {max(sizes):,} bytes and {sum(sizes):,} in all; at most {MAX_FILE_BYTES:,} "
            f"and {MAX_ARCHIVE_BYTES:,} are read. It is not the archive that it should be: fetch it again."
        )
    return zipfile.Path(archive)
