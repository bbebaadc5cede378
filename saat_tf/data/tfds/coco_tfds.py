"""MS-COCO 2014 through TensorFlow Datasets: what a user without the files has fetched for them."""

import copy
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from saat_tf.data.labeled_images import LabeledImages
from saat_tf.data.tfds.coco import CLASS_NAMES, HOW_TO_GET
from saat_tf.files import write_bytes
from saat_tf.progress import Track, silent
from saat_tf.text_lists import DataError

SERVER = "http://images.cocodataset.org/annotations/annotations_trainval2014.zip"
SECONDS_TO_ANSWER = 5
# train2014.zip, val2014.zip and annotations_trainval2014.zip, from the checksums of TensorFlow Datasets.
DOWNLOAD_BYTES = 13_510_573_713 + 6_645_013_297 + 252_872_794
SPLITS = ("train", "validation")


def read_coco_tfds(
    images_dir: Path,
    *,
    tfds_dir: Path | None = None,
    download: bool = False,
    announce: Callable[[str], None],
    track: Track = silent,
) -> LabeledImages:
    """Read the training and validation images of `coco/2014`, and write them out as files.

    Labels, columns and ids are those of `read_coco`: the same images, hence the same seeded splits.

    Args:
        images_dir: where the images are written, as they were encoded.
        tfds_dir: data folder of TensorFlow Datasets; its own default where None.
        download: fetch and prepare the data set where that has not been done. Of the four splits that `coco/2014`
            would fetch, 40 GB, only the two in use are: they go to `coco/2014_trainval`.
        announce: called with the size and the time of a download before it starts.
        track: shows progress.

    Raises:
        DataError: the data set is not prepared and may not be fetched, or its server does not answer, which takes
            seconds to find out.
    """
    builder = _builder(tfds_dir)
    if not builder.is_prepared():
        if not download:
            raise DataError(
                f"coco/2014 is not prepared in {builder.data_dir}. Add --download to fetch it, "
                f"{DOWNLOAD_BYTES / 1e9:.1f} GB, or name a folder that has the files by --data-dir.\n{HOW_TO_GET}"
            )
        check_server(SERVER)
        minutes = DOWNLOAD_BYTES * 8 / 100e6 / 60
        announce(
            f"Downloading MS-COCO 2014: {DOWNLOAD_BYTES / 1e9:.1f} GB, {minutes:.0f} minutes at 100 Mbit/s. Then it is "
            f"unpacked, written as TFRecord to {builder.data_dir}, and its images are written as files: about four "
            "times that space on disk, and an hour or more."
        )
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return _write_images(builder, images_dir, track)


def check_server(url: str) -> None:
    """Return when a server answers, by the user's proxy where there is one.

    TensorFlow Datasets itself would retry for minutes.

    Raises:
        DataError: it does not answer within seconds.
    """
    answers: list[Exception | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS_TO_ANSWER).close()
            answers.append(None)
        except (OSError, ValueError) as error:
            answers.append(error)

    # The timeout of a connection does not bound the look-up of its name; a thread that is left behind does.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * SECONDS_TO_ANSWER)
    fault = answers[0] if answers else "no answer"
    if fault is not None:
        raise DataError(
            f"cannot reach {url} ({fault}). Check the network, or fetch the files on another machine.\n{HOW_TO_GET}"
        )


def _builder(tfds_dir: Path | None) -> tfds.core.DatasetBuilder:
    """Return `coco/2014` where the user has it, else a configuration of it without the two test splits."""
    whole = tfds.builder("coco/2014", data_dir=tfds_dir)
    if whole.is_prepared():
        return whole
    config = copy.copy(whole.builder_config)
    config.name = "2014_trainval"
    config.splits = [split for split in config.splits if split.name in SPLITS]
    return tfds.builder("coco", config=config, data_dir=tfds_dir)


def _write_images(builder: tfds.core.DatasetBuilder, folder: Path, track: Track) -> LabeledImages:
    named = builder.info.features["objects"]["label"].names
    if tuple(named) not in (CLASS_NAMES, tuple(map(str, range(len(CLASS_NAMES))))):
        raise DataError(f"{builder.data_dir}: expected COCO's 80 categories by ascending id. Received: {named}.")
    folder.mkdir(parents=True)
    ids, rows = [], []
    for split in SPLITS:
        examples = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        for example in track(tfds.as_numpy(examples), len(examples), f"Writing {split} images"):
            labels = np.zeros(len(CLASS_NAMES), np.uint8)
            labels[example["objects"]["label"]] = 1
            name = example["image/filename"].decode()
            if not labels.any():
                continue
            if Path(name).name != name:
                raise DataError(f"{builder.data_dir}: expected the name of a file in one folder. Received: {name!r}.")
            write_bytes(folder / name, example["image"])
            ids.append(name)
            rows.append(labels)
    if not ids:
        raise DataError(f"{builder.data_dir}: no image has a box. Prepare coco/2014 again.")
    return LabeledImages.ordered(ids, [folder / name for name in ids], np.stack(rows), CLASS_NAMES)
