"""From the bytes of an image file to the pixels that a model sees: the one function for training and evaluation."""

import concurrent.futures
import os
from pathlib import Path

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from saat_tf.data.list_format import DataError, ImageList, ImageLists
from saat_tf.progress import Track, silent

# An image that decodes to more than this (600 MB as float32) is refused by its header.
MAX_PIXELS = 50_000_000
# Resizing the shorter side stretches the longer one with it; a strip a pixel wide would fill the memory.
MAX_ASPECT = 20
FORMATS = ("JPEG", "PNG", "GIF", "BMP")


def decode_image(contents: tf.Tensor, image_size: int, resize_size: int) -> tf.Tensor:
    """Decode an image file, resize its shorter side to `resize_size` and cut out the middle.

    Bilinear with antialiasing, as PIL does it; the aspect ratio is kept.

    Args:
        contents: scalar string, the bytes of a JPEG, PNG, GIF (first frame) or BMP file.
        image_size: S, side of the result in pixels.
        resize_size: length of the shorter side before the cut, at least `image_size`.

    Returns:
        float32 (S, S, 3) in [0, 1].
    """
    image = _decode(contents)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    resized = tf.cast(tf.round(size * resize_size / tf.reduce_min(size)), tf.int32)
    image = tf.image.resize(tf.cast(image, tf.float32), resized, antialias=True)  # (H, W, 3) -> (H', W', 3)
    top_left = (resized - image_size) // 2
    image = tf.image.crop_to_bounding_box(image, top_left[0], top_left[1], image_size, image_size)
    image = tf.ensure_shape(image, (image_size, image_size, 3))
    return tf.clip_by_value(image / 255.0, 0.0, 1.0)


def _decode(contents: tf.Tensor) -> tf.Tensor:
    """Decode to uint8 (H, W, 3). The accurate transform makes JPEG pixels those of PIL; TensorFlow's fast one is off
    by up to ten levels, as much as an attack.
    """
    image = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def check_images(lists: ImageLists, track: Track = silent) -> None:
    """Decode every image of every split once, so that no unreadable file ends a run half-way.

    Args:
        lists: the data set.
        track: shows progress.

    Raises:
        DataError: an image is truncated, is no image, is of another format, is larger than `MAX_PIXELS` or narrower
            than `MAX_ASPECT`; the message names the list, the line and the file.
    """
    lines = {}
    for split in (lists.train, lists.database, lists.test):
        lines.update((path, split) for path in split.paths)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = pool.map(_fault, lines)
        for (path, split), fault in track(zip(lines.items(), faults, strict=True), len(lines), "Checking images"):
            if fault:
                pool.shutdown(wait=False, cancel_futures=True)
                raise DataError(f"{_place(path, split)}: cannot read {path}: {fault} Replace it, or drop its lines.")


def _place(path: Path, split: ImageList) -> str:
    return f"{split.name}_img.txt:{split.lines[split.paths.index(path)]}"


def _fault(path: Path) -> str | None:
    """Say what is wrong with an image file, or None."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
        if width * height > MAX_PIXELS:
            return f"it has {width} x {height} pixels, at most {MAX_PIXELS:,} are read."
        if max(width, height) > MAX_ASPECT * min(width, height):
            return f"it has {width} x {height} pixels, sides of at most {MAX_ASPECT} : 1 are read."
        _decode(tf.io.read_file(str(path)))
    except UnidentifiedImageError:
        return f"it is none of {', '.join(FORMATS)}."
    except Exception as error:  # a damaged or hostile file makes decoders raise anything
        return f"{(str(error) or type(error).__name__).splitlines()[0].rstrip('.')}."
    return None
