"""FLICKR-25K: MIRFLICKR's 25,000 photographs and its annotations, version 080."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from saat_tf.data.labeled_images import LabeledImages, find_folder
from saat_tf.data.splits import Protocol
from saat_tf.data.tfds.image_builder import ImageBuilder
from saat_tf.text_lists import DataError, File, read_lines

NUM_IMAGES = 25_000
# Wider labels: the concept may be in the picture. Narrower ones (_r1): it is what the picture is about.
POTENTIAL = tuple(
    "animals baby bird car clouds dog female flower food indoor lake male night people plant_life portrait river sea "
    "sky structures sunset transport tree water".split()
)
RELEVANT = tuple(
    f"{name}_r1" for name in "baby bird car clouds dog female flower male night people portrait river sea tree".split()
)
CLASS_NAMES = POTENTIAL + RELEVANT
PROTOCOL = Protocol(num_images=NUM_IMAGES, num_queries=1_700, num_train=5_000)

HOW_TO_GET = """\
Fetch both archives from https://press.liacs.nl/mirflickr/mirdownload.html into one folder, as they are or unpacked:
  mirflickr25k.zip                    3 GB; unpacked, the folder mirflickr/ with im1.jpg to im25000.jpg
  mirflickr25k_annotations_v080.zip   unpacked, the folder mirflickr25k_annotations_v080/ (or annotations/) with
                                      animals.txt, baby.txt, baby_r1.txt and so on, one image number a line"""
MISSING = "there are no {} of MIRFLICKR-25K.\n" + HOW_TO_GET


def read_flickr25k(data_dir: Path, *, columns: int = 38, skip_missing: bool = False) -> LabeledImages:
    """Read MIRFLICKR-25K from its archives or from the folders that they unpack to.

    The columns are the 24 potential labels in alphabetical order, then the 14 relevant ones (`_r1`) in alphabetical
    order, so that the first 24 columns of 38 are the 24 of the smaller set. Images without a label are kept: the
    published 25,000 contain them.

    Args:
        data_dir: the user's folder.
        columns: 38 for all labels, 24 for the potential ones alone.
        skip_missing: leave out images whose files are missing.

    Returns:
        The images, with ids `im1.jpg` to `im25000.jpg`.

    Raises:
        DataError: archives or files are missing or damaged, or an annotation is no image number.
    """
    if columns not in (len(CLASS_NAMES), len(POTENTIAL)):
        raise ValueError(f"expected columns 38 or 24. Received: {columns}.")
    images = find_folder(data_dir, ("mirflickr", "mirflickr25k.zip/mirflickr"), MISSING.format("images"))
    annotations = find_folder(
        data_dir,
        (
            "mirflickr25k_annotations_v080",
            "annotations",
            "mirflickr/annotations",
            "mirflickr25k_annotations_v080.zip/",
            "mirflickr25k_annotations_v080.zip/mirflickr25k_annotations_v080",
        ),
        MISSING.format("annotations"),
        containing=f"{POTENTIAL[0]}.txt",
    )
    labels = np.zeros((NUM_IMAGES, columns), np.uint8)
    for column, name in enumerate(CLASS_NAMES[:columns]):
        labels[_image_numbers(annotations / f"{name}.txt"), column] = 1
    ids = [f"im{number}.jpg" for number in range(1, NUM_IMAGES + 1)]
    files = [images / name for name in ids]
    return LabeledImages.ordered(ids, files, labels, CLASS_NAMES[:columns]).present(skip_missing=skip_missing)


def _image_numbers(file: File) -> list[int]:
    """Read the numbers of one annotation file, counted from 0."""
    if not file.is_file():
        raise DataError(f"{file}: no such file. Unpack the whole of mirflickr25k_annotations_v080.zip.")
    lines = read_lines(file)
    for number, text in enumerate(lines, start=1):
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= NUM_IMAGES):
            raise DataError(f"{file}:{number}: expected an image number from 1 to {NUM_IMAGES:,}. Received: {text!r}.")
    return [int(line) - 1 for line in lines]


class Flickr25k(ImageBuilder):
    """MIRFLICKR-25K with the labels of its annotations, version 080 (Huiskes and Lew, 2008).

    After `import saat_tf.data.tfds.flickr25k`, `tfds.load("flickr25k", split="images")` gives all 38 label columns and
    `tfds.load("flickr25k/24", split="images")` the 24 potential ones, cached as TFRecord.
    """

    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="38", description="24 potential and 14 relevant labels"),
        tfds.core.BuilderConfig(name="24", description="the 24 potential labels"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    def num_classes(self) -> int:
        """Return the number of label columns: 38 or 24."""
        return int(self.builder_config.name)

    def read(self, manual_dir: Path) -> LabeledImages:
        """Read the archives in the manual folder of TensorFlow Datasets."""
        return read_flickr25k(manual_dir, columns=self.num_classes())
