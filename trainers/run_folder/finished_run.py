"""The folder of a finished run: its card, and the data that it was made of, without the recipe that made it."""

import dataclasses
import json
from pathlib import Path

from saat_tf.data.decoding.check import check_images, drop_images
from saat_tf.data.list_format import DataError, read_class_names, read_image_lists
from saat_tf.data.pipeline import RetrievalData, file_split
from saat_tf.data.scenes import scenes_data
from saat_tf.progress import Track, silent


def read_card(run_dir: Path) -> dict:
    """Return the card of a finished run.

    Raises:
        DataError: the folder has no card, or it cannot be read.
    """
    file = run_dir / "card.json"
    if not file.is_file():
        raise DataError(f"{file}: no such file. --run-dir must name the folder of a finished run.")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file}: not a card ({error}). Restore it, or repeat the run.") from error


def applies_orientation(config: dict) -> bool:
    """Return whether a run turned images as their EXIF data say.

    Args:
        config: options of the run, as its card has them. Runs from before the option took files as they are stored.
    """
    return not config.get("ignore_orientation", "crop_fraction" in config)


def load_run_data(run_dir: Path, card: dict, data_dir: Path | None = None, track: Track = silent) -> RetrievalData:
    """Load what a finished run was trained on and searched: drawn again, or by the lists that the run keeps.

    Args:
        run_dir: folder of the run; its split/ says which images.
        card: of the run, from `read_card`.
        data_dir: a folder in the list format to read instead, for images that are no longer where the run found them.
        track: shows progress.

    Raises:
        DataError: the images are missing or at fault, the run is too old to keep its lists, or its data are drawn and
            `data_dir` does not apply.
    """
    config = card["config"]
    if card["dataset"] == "scenes":
        if data_dir is not None:
            raise DataError("--data-dir does not apply to scenes, which are drawn. Leave it out.")
        options = {name: config[name] for name in ("image_size", "seed", "limit_train")}
        return scenes_data(config["num_train"], config["num_queries"], **options)
    kept = run_dir / "split"
    if data_dir is None and not kept.is_dir():
        raise DataError(f"{kept}: no such folder. Name the images by --data-dir, a folder in the list format.")
    lists = read_image_lists(data_dir or kept, num_classes=config["num_labels"] if data_dir else None)
    skip = data_dir is not None and config.get("skip_unreadable", False)
    lists = drop_images(lists, check_images(lists, track, skip=skip))
    if data_dir is not None:
        train = lists.train.take(range(len(lists.train.paths))[: config["limit_train"]])
        lists = dataclasses.replace(lists, train=train)
    size = config["image_size"]
    splits = (
        file_split(images, size, round(size / config["crop_fraction"]), apply_orientation=applies_orientation(config))
        for images in (lists.train, lists.database, lists.test)
    )
    return RetrievalData(card["dataset"], read_class_names(data_dir or kept, lists.train.labels.shape[1]), *splits)
