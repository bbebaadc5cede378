"""Decoded images kept on disk, for training sets that do not fit into memory."""

import concurrent.futures
import hashlib
import os
import shutil
from pathlib import Path

import tensorflow as tf

from saat_tf.data.batches import evaluation_batches
from saat_tf.data.list_format import DataError, ImageList
from saat_tf.data.pipeline import Split, center_only, file_split, indices
from saat_tf.files import atomic
from saat_tf.progress import Track, silent

BATCH = 32
# To be counted up where docs/images.md changes what pixels a file has.
DECODING = 2


def cached_file_split(
    images: ImageList,
    image_size: int,
    resize_size: int,
    cache_dir: Path,
    *,
    apply_orientation: bool = True,
    track: Track = silent,
) -> Split:
    """Make a split of image files that are decoded once, also over several runs: `file_split`, bit for bit.

    The images lie in a folder of `cache_dir` as float32, 12 S^2 bytes each, and are read in any order. The folder is
    named by a hash of the settings, the contents of all image files in their order, the version of TensorFlow and the
    version of the rules of decoding. It appears when it is whole: neither a half-written cache nor one of other images
    or settings is ever read.

    Args:
        images: the split.
        image_size: S, side of the images in pixels.
        resize_size: length of the shorter side before the cut.
        cache_dir: where caches lie; made where it is needed.
        apply_orientation: as in `decode_image`.
        track: shows progress of the decoding.

    Raises:
        DataError: the disk has too little room, or files of the cache are gone.
    """
    cache_dir = Path(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    folder = cache_dir / _digest(images, image_size, resize_size, apply_orientation)
    if not folder.is_dir():
        split = file_split(images, image_size, resize_size, apply_orientation=apply_orientation)
        _fill(folder, split, 12 * image_size**2, track)
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    if sizes != {_name(index): 12 * image_size**2 for index in range(len(images.paths))}:
        raise DataError(f"{folder}: files of this cache are gone or changed. Remove the folder; it is made again.")

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return index, tf.io.read_file(tf.strings.join([f"{folder}/", tf.strings.as_string(index, width=8, fill="0")]))

    def decode(contents: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.io.decode_raw(contents, tf.float32), (image_size, image_size, 3))

    return Split(images.labels, indices, read, center_only(decode))


def _name(index: int) -> str:
    return f"{index:08d}"


def _digest(images: ImageList, image_size: int, resize_size: int, apply_orientation: bool) -> str:
    settings = f"{image_size} {resize_size} {apply_orientation} {DECODING} {tf.__version__}"
    total = hashlib.sha256(settings.encode())
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for digest in pool.map(lambda path: hashlib.sha256(path.read_bytes()).digest(), images.paths):
            total.update(digest)
    return total.hexdigest()[:32]


def _fill(folder: Path, split: Split, image_bytes: int, track: Track) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < len(split) * image_bytes:
        raise DataError(
            f"{folder.parent}: {len(split) * image_bytes / 1e9:.1f} GB are needed for {len(split)} decoded images, "
            f"{free / 1e9:.1f} GB are free. Make room, or do without the cache."
        )
    try:
        with atomic(folder) as whole:
            whole.mkdir()
            batches = evaluation_batches(split, BATCH).as_numpy_iterator()
            for shown, _, index in track(batches, -(-len(split) // BATCH), "Decoding images"):
                for image, i in zip(shown, index, strict=True):
                    (whole / _name(i)).write_bytes(image.tobytes())
    except OSError:
        if not folder.is_dir():  # unless another run has filled it meanwhile
            raise
