"""Images of classes, one folder a class: in folders, or in tar files, which are read in place."""

import dataclasses
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from saat_tf.data.decoding.check import image_faults
from saat_tf.data.decoding.files import MAX_FILE_BYTES, read_file
from saat_tf.progress import Track, silent
from saat_tf.text_lists import DataError

TRAIN, HELD_OUT = "train", ("val", "validation", "valid", "test")
HOW_TO_LAY_OUT = (
    "Expected <class>/<image>, or train/<class>/<image> and val/<class>/<image>: folders, or the same inside of tar "
    "files, or one <class>.tar a class."
)
# A tar file ends with two empty blocks.
TAR_END = b"\0" * 1024


@dataclasses.dataclass(frozen=True)
class ImageBytes:
    """The place of an image's bytes: a file, or a part of a tar file.

    Args:
        path: the file.
        name: name inside the tar file; "" for a whole file.
        offset: first byte.
        size: number of bytes.
    """

    path: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}:{self.name}" if self.name else str(self.path)

    def read(self) -> tuple[bytes, str | None]:
        """Return the image's bytes and None, or nothing and why they were not read."""
        if not self.name:
            return read_file(self.path)
        if self.size > MAX_FILE_BYTES:
            return b"", f"it has {self.size:,} bytes, at most {MAX_FILE_BYTES:,} are read"
        with open(self.path, "rb") as archive:
            archive.seek(self.offset)
            return archive.read(self.size), None


@dataclasses.dataclass(frozen=True)
class ClassifiedImages:
    """Images of which each has one class.

    Args:
        files: N images, sorted by class and name.
        classes: int32 (N,) class numbers.
        class_names: names of the C classes.
    """

    files: tuple[ImageBytes, ...]
    classes: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def label_rows(self) -> np.ndarray:
        """Return one-hot rows of the classes: float32 (N, C)."""
        return np.eye(len(self.class_names), dtype=np.float32)[self.classes]

    def take(self, kept: Sequence[int] | np.ndarray) -> "ClassifiedImages":
        """Return the images at the places `kept`."""
        return dataclasses.replace(self, files=tuple(self.files[i] for i in kept), classes=self.classes[kept])


def read_class_folders(folder: Path) -> tuple[ClassifiedImages, ClassifiedImages | None]:
    """List the images of a folder of class folders, of tar files, or of both; nothing is unpacked.

    A tar file is read as the folder that it contains; one whose images lie in no folder is a class of its name. Names
    that begin with a dot are left out, and so are files that lie in no class.

    Args:
        folder: <class>/<image>; or train/<class>/<image> beside val/<class>/<image> (or validation, valid, test).

    Returns:
        The training images, and the held-out ones where the folder divides them; both with the classes of training in
        the order of their names.

    Raises:
        DataError: there is no folder, a tar file is damaged or compressed, there are no class folders or only one, a
            class has one image, or held-out images are of a class without training images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. {HOW_TO_LAY_OUT}")
    entries = list(_entries(folder, ()))
    found: dict[str, dict[str, list[ImageBytes]]] = {}
    is_divided = any(parts[0] == TRAIN and len(parts) == 3 for parts, _ in entries)
    for parts, image in entries:
        split, *rest = parts if is_divided else (TRAIN, *parts)
        if split == TRAIN or split in HELD_OUT:
            if len(rest) == 2:
                found.setdefault(split, {}).setdefault(rest[0], []).append(image)
            elif len(rest) > 2 or is_divided:
                raise DataError(f"{image}: lies in no class folder. {HOW_TO_LAY_OUT}")
    by_class = found.get(TRAIN, {})
    if len(by_class) < 2:
        raise DataError(f"{folder}: {len(by_class)} class folders with images. {HOW_TO_LAY_OUT}")
    lonely = sorted(name for name, images in by_class.items() if len(images) < 2)
    if lonely:
        raise DataError(
            f"{folder}: a class needs at least two training images. Received: one in {', '.join(lonely)}. "
            "Add images, or remove the class."
        )
    names = tuple(sorted(by_class))
    held_out = next((found[split] for split in HELD_OUT if split in found), None)
    if held_out is None:
        return _classified(by_class, names), None
    unknown = sorted(held_out.keys() - by_class.keys())
    if unknown:
        raise DataError(f"{folder}: held-out images of classes without training images: {', '.join(unknown)}.")
    return _classified(by_class, names), _classified(held_out, names)


def reader_of(files: Sequence[ImageBytes]) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Make a function in the graph: number of a file, int64 -> the number, and the image's bytes."""
    paths = tf.constant([str(image.path) for image in files])
    # Of each image its first byte, its number of bytes, and the bytes of its file that follow.
    lengths = {path: path.stat().st_size for path in {image.path for image in files}}
    bounds = tf.constant([(i.offset, i.size, lengths[i.path] - i.offset - i.size) for i in files], tf.int64)

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        offset, size, rest = tf.unstack(bounds[index])
        part = tf.data.FixedLengthRecordDataset(paths[index], size, header_bytes=offset, footer_bytes=rest)
        return index, part.get_single_element()

    return read


def draw_held_out(images: ClassifiedImages, share: float, *, seed: int) -> tuple[ClassifiedImages, ClassifiedImages]:
    """Draw a share of the images of each class, rounded, at least one and not all; return the rest, and these.

    Example:
        >>> files = tuple(ImageBytes(Path(f"{i}.png"), "", 0, 1) for i in range(6))
        >>> rest, held = draw_held_out(ClassifiedImages(files, np.int32([0, 0, 0, 0, 1, 1]), ("a", "b")), 0.25, seed=0)
        >>> rest.classes.tolist(), held.classes.tolist()
        ([0, 0, 0, 1], [0, 1])
    """
    order = np.random.PCG64(seed).random_raw(len(images))
    drawn: list[int] = []
    for number in range(len(images.class_names)):
        places = np.flatnonzero(images.classes == number)
        count = min(max(1, round(share * len(places))), len(places) - 1)
        drawn.extend(places[np.argsort(order[places], kind="stable")[:count]])
    held = np.sort(drawn)
    return images.take(np.setdiff1d(np.arange(len(images)), held)), images.take(held)


def readable(images: ClassifiedImages, track: Track = silent, *, skip: bool = False) -> tuple[ClassifiedImages, list]:
    """Decode every image once; return those that can be read, and what is wrong with the others.

    Raises:
        DataError: an image cannot be read and `skip` is not set; or a class keeps less than one image.
    """
    kept, faults = [], []
    for place, (image, fault) in enumerate(image_faults(images.files, track, read=ImageBytes.read)):
        if fault is None:
            kept.append(place)
            continue
        faults.append(f"cannot read {image}: {fault}")
        if not skip:
            raise DataError(f"{faults[-1]} Replace it, remove it, or leave such images out by --skip-unreadable.")
    left = images.take(kept)
    gone = sorted(set(np.unique(images.classes)) - set(np.unique(left.classes)))
    if gone:
        raise DataError(f"none of the images of {images.class_names[gone[0]]} can be read: {faults[0]}")
    return left, faults


def _classified(by_class: dict[str, list[ImageBytes]], names: tuple[str, ...]) -> ClassifiedImages:
    files, classes = [], []
    for number, name in enumerate(names):
        images = sorted(by_class.get(name, []), key=str)
        files += images
        classes += [number] * len(images)
    return ClassifiedImages(tuple(files), np.array(classes, np.int32), names)


def _entries(folder: Path, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ImageBytes]]:
    """Yield each image's place below the folder, as names, and its bytes."""
    if len(place) > 3:
        raise DataError(f"{folder}: folders are nested too deeply. {HOW_TO_LAY_OUT}")
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.is_dir():
            yield from _entries(path, (*place, entry.name))
        elif path.suffix == ".tar":
            yield from _members(path, place)
        else:
            yield (*place, entry.name), ImageBytes(path, "", 0, entry.stat().st_size)


def _members(archive: Path, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ImageBytes]]:
    try:
        with tarfile.open(archive, "r:") as tar:
            members = [member for member in tar if member.isreg() and not member.issparse()]
        with open(archive, "rb") as stream:
            stream.seek(-len(TAR_END), os.SEEK_END)
            if stream.read() != TAR_END:
                raise tarfile.ReadError("it is cut short")
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{archive}: not a whole, uncompressed tar file ({error}). Fetch it again, or decompress it."
        ) from error
    for member in members:
        parts = PurePosixPath(member.name).parts
        if ".." in parts or parts[:1] == ("/",):
            raise DataError(f"{archive}: the name {member.name!r} leads out of the archive. Make the archive anew.")
        if not any(part.startswith(".") for part in parts):
            inside = parts if len(parts) > 1 else (archive.stem, *parts)
            yield (*place, *inside), ImageBytes(archive, member.name, member.offset_data, member.size)
