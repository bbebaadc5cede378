"""From the bytes of an image file to the pixels that a model sees: the one function for training and evaluation."""

import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Generator, Sequence
from pathlib import Path

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from saat_tf.data.decoding.gif import first_picture
from saat_tf.data.list_format import ImageLists
from saat_tf.progress import Track, silent
from saat_tf.text_lists import DataError, File

# An image that decodes to more than this (600 MB as float32) is refused by its header.
MAX_PIXELS = 50_000_000
# Resizing the shorter side stretches the longer one with it; a strip a pixel wide would fill the memory.
MAX_ASPECT = 20
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
GIF = b"GIF8"


def decode_image(
    contents: tf.Tensor, image_size: int, resize_size: int, *, crop_seed: tf.Tensor | None = None
) -> tf.Tensor:
    """Decode an image file, resize its shorter side to `resize_size` and cut out a square.

    Bilinear with antialiasing, as PIL does it; the aspect ratio is kept. Only the square is computed, not the image
    around it. Training, evaluation and export call this one function.

    Args:
        contents: scalar string, the bytes of a JPEG, PNG, still WebP, GIF (first frame) or BMP file.
        image_size: S, side of the result in pixels.
        resize_size: length of the shorter side before the cut, at least `image_size`.
        crop_seed: integer (2,), which decides where to cut, each place as likely; the middle by default.

    Returns:
        float32 (S, S, 3) in [0, 1].

    Raises:
        ValueError: the cut is larger than what it is cut from.

    Example:
        >>> red = tf.io.encode_png(tf.zeros((20, 30, 3), tf.uint8) + tf.constant([255, 0, 0], tf.uint8))
        >>> decode_image(red, image_size=8, resize_size=10)[4, 4].numpy().tolist()
        [1.0, 0.0, 0.0]
    """
    if not 1 <= image_size <= resize_size:
        raise ValueError(
            f"`image_size` must be at least 1 and at most `resize_size`. Received: {image_size} and {resize_size}."
        )
    image = _decode(contents)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    resized = tf.round(size * resize_size / tf.reduce_min(size))
    room = resized - image_size
    if crop_seed is None:
        top_left = tf.floor(room / 2)
    else:
        top_left = tf.floor(tf.random.stateless_uniform((2,), crop_seed) * (room + 1))
    # tf.image.resize is this operation without the translation, which makes it compute what the cut throws away.
    image = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis],
        size=(image_size, image_size),
        scale=resized / size,
        translation=-top_left,
        kernel_type="triangle",
        antialias=True,
    )[0]  # (H, W, 3) -> (S, S, 3)
    # A product, since optimised graphs turn a division into one and others do not, which differ in the last bit. The
    # weights of a pixel are positive, and their sum may round to more than 1.
    return tf.minimum(tf.ensure_shape(image, (image_size, image_size, 3)) * (1 / 255), 1.0)


def _decode(contents: tf.Tensor) -> tf.Tensor:
    """Decode to uint8 (H, W, 3). The accurate transform makes JPEG pixels those of PIL; TensorFlow's fast one is off
    by up to ten levels, as much as an attack.
    """
    image = tf.case(
        [
            (
                tf.io.is_jpeg(contents),
                lambda: tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"),
            ),
            (
                tf.strings.substr(contents, 0, len(GIF)) == GIF,
                lambda: tf.io.decode_gif(first_picture(contents, MAX_PIXELS))[0],
            ),
        ],
        default=lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


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
        return f"{self.split}_img.txt:{self.line}: cannot read {self.path}: {self.fault}"


def check_images(lists: ImageLists, track: Track = silent, *, skip: bool = False) -> list[UnreadableImage]:
    """Decode every image of every split once, so that no unreadable file ends a run half-way.

    Args:
        lists: the data set.
        track: shows progress.
        skip: return the lines whose images cannot be read, for `drop_images`, instead of raising.

    Returns:
        The unreadable lines in the order of the lists; none where all can be read.

    Raises:
        DataError: without `skip`, an image is truncated, is no image, is of another format, is larger than `MAX_PIXELS`
            or narrower than `MAX_ASPECT`; the message names the list, the line and the file.
    """
    places = {}
    for split in (lists.train, lists.database, lists.test):
        for path, line in zip(split.paths, split.lines, strict=True):
            places.setdefault(path, []).append((split.name, line))
    unreadable = []
    with contextlib.closing(image_faults(list(places), track)) as faults:
        for path, fault in faults:
            found = [UnreadableImage(*place, path, fault) for place in places[path] if fault]
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


def image_faults(paths: Sequence[File], track: Track = silent) -> Generator[tuple[File, str | None], None, None]:
    """Decode image files, all cores at a time.

    Close it where it is left half-way; it then waits for the files in work.

    Args:
        paths: the files, each with `open` and `read_bytes`.
        track: shows progress.

    Yields:
        Each file in order, and what is wrong with it, or None.
    """
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        yield from track(zip(paths, pool.map(_fault, paths), strict=True), len(paths), "Checking images")
    finally:
        pool.shutdown(cancel_futures=True)


def _fault(file: File) -> str | None:
    """Say what is wrong with an image file, or None."""
    try:
        with file.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
            width, height = image.size
        if width * height > MAX_PIXELS:
            return f"it has {width} x {height} pixels, at most {MAX_PIXELS:,} are read."
        if max(width, height) > MAX_ASPECT * min(width, height):
            return f"it has {width} x {height} pixels, sides of at most {MAX_ASPECT} : 1 are read."
        _decode(file.read_bytes())
    except UnidentifiedImageError:
        return f"it is none of {', '.join(FORMATS)}."
    except Exception as error:  # a damaged or hostile file makes decoders raise anything
        return f"{(str(error) or type(error).__name__).splitlines()[0].rstrip('.')}."
    return None
