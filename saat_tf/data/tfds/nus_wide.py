"""NUS-WIDE: Flickr photographs with the 21 commonest of its 81 concepts (Chua et al., CIVR 2009)."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from saat_tf.data.labeled_images import LabeledImages, find_folder
from saat_tf.data.splits import Protocol
from saat_tf.data.tfds.image_builder import ImageBuilder
from saat_tf.text_lists import DataError, File, listed_path, read_lines

NUM_CONCEPTS, NUM_COMMONEST = 81, 21
PROTOCOL = Protocol(num_images=195_834, num_queries=100, num_train=500, per_class=True)

HOW_TO_GET = """\
Fetch from https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html into one folder, as they
are or unpacked:
  Groundtruth.zip   unpacked, Groundtruth/AllLabels/Labels_<concept>.txt: 81 files, a 0 or 1 a line
  ImageList.zip     unpacked, ImageList/Imagelist.txt: 269,648 lines such as actor\\0001_2124494179.jpg
and put the images, which the authors give on request, into the folder Flickr/ (or images/) there: as
Flickr/actor/0001_2124494179.jpg, or all in one folder as Flickr/0001_2124494179.jpg"""
MISSING = "there is no {} of NUS-WIDE.\n" + HOW_TO_GET


def read_nus_wide(data_dir: Path, *, skip_missing: bool = False) -> LabeledImages:
    """Read the images of NUS-WIDE that have one of its 21 commonest concepts: 195,834 in the original.

    The concepts are counted over all images of the ground truth; the columns go from the commonest concept to the least
    common, equal counts in alphabetical order: sky, clouds, person, water, animal, grass, buildings, window, plants,
    lake and so on in the original.

    Args:
        data_dir: the user's folder.
        skip_missing: leave out images whose files are missing; many photographs have left Flickr.

    Returns:
        The images, with the names of the image list as ids: `actor/0001_2124494179.jpg`.

    Raises:
        DataError: lists are missing, damaged or of unequal length, or image files are missing.
    """
    truth = find_folder(
        data_dir,
        ("Groundtruth/AllLabels", "Groundtruth.zip/AllLabels", "Groundtruth.zip/Groundtruth/AllLabels"),
        MISSING.format("ground truth"),
    )
    lists = find_folder(
        data_dir,
        ("ImageList", "ImageList.zip/ImageList", "ImageList.zip/"),
        MISSING.format("image list"),
        containing="Imagelist.txt",
    )
    images = find_folder(data_dir, ("Flickr", "images", "image"), MISSING.format("folder of images"))
    names = _image_names(lists / "Imagelist.txt")
    concepts, labels = _commonest(truth, len(names))
    kept = np.flatnonzero(labels.any(axis=1))
    ids = [names[i] for i in kept]
    files = [_image_file(images, name) for name in ids]
    return LabeledImages.ordered(ids, files, labels[kept], concepts).present(skip_missing=skip_missing)


def _image_names(file: File) -> list[str]:
    """Read the image list, with / between the concept that found the image and its file name."""
    names = [listed_path(line) for line in read_lines(file)]
    for number, name in enumerate(names, start=1):
        parts = name.split("/")
        if len(parts) != 2 or not all(parts) or ".." in parts:
            raise DataError(f"{file}:{number}: expected a line such as actor\\0001_2124494179.jpg. Received: {name!r}.")
    return names


def _commonest(truth: File, num_images: int) -> tuple[list[str], np.ndarray]:
    """Return the names of the commonest concepts and uint8 (num_images, 21) labels."""
    prefix = "Labels_"
    files = {
        file.name.removeprefix(prefix).removesuffix(".txt"): file
        for file in truth.iterdir()
        if file.name.startswith(prefix) and file.name.endswith(".txt")
    }
    if len(files) != NUM_CONCEPTS:
        raise DataError(
            f"{truth}: expected {NUM_CONCEPTS} files Labels_<concept>.txt, to find the commonest concepts. "
            f"Received: {len(files)}. Unpack the whole of Groundtruth.zip."
        )
    columns = {concept: _column(files[concept], num_images) for concept in sorted(files)}
    commonest = sorted(columns, key=lambda concept: -int(columns[concept].sum()))[:NUM_COMMONEST]
    return commonest, np.stack([columns[concept] for concept in commonest], axis=1)


def _column(file: File, num_images: int) -> np.ndarray:
    lines = read_lines(file)
    if len(lines) != num_images:
        raise DataError(
            f"{file} has {len(lines):,} lines and Imagelist.txt has {num_images:,}. "
            "They must have one line for each image: fetch both again."
        )
    for number, line in enumerate(lines, start=1):
        if line not in ("0", "1"):
            raise DataError(f"{file}:{number}: labels must be 0 or 1. Received: {line!r}.")
    return np.array([line == "1" for line in lines], np.uint8)


def _image_file(images: File, name: str) -> File:
    """Return where an image lies: in the folder of its concept, or with all others in one folder."""
    file = images / name
    return file if file.is_file() else (flat if (flat := images / name.partition("/")[2]).is_file() else file)


class NusWide(ImageBuilder):
    """The images of NUS-WIDE that have one of its 21 commonest concepts (Chua et al., CIVR 2009).

    After `import saat_tf.data.tfds.nus_wide`, `tfds.load("nus_wide", split="images")` reads them, cached as TFRecord.
    An image whose file is missing is an error. `nus_wide/skip_missing` leaves such images out and names them in
    `info.metadata["skipped"]`.
    """

    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="complete", description="all images; a missing file is an error"),
        tfds.core.BuilderConfig(name="skip_missing", description="the images whose files are there"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def num_classes(self) -> int:
        """Return the number of label columns: 21."""
        return NUM_COMMONEST

    def read(self, manual_dir: Path) -> LabeledImages:
        """Read the lists and images in the manual folder of TensorFlow Datasets."""
        return read_nus_wide(manual_dir, skip_missing=self.builder_config.name == "skip_missing")
