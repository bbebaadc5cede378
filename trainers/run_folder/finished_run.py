"""The folder of a finished run: its card, and the data that it was made of, without the recipe that made it."""

import dataclasses
from pathlib import Path

from saat_tf.data.decoding.check import check_images, drop_images
from saat_tf.data.folder_lists import class_folder_lists
from saat_tf.data.list_format import keep_columns, read_class_names, read_image_lists
from saat_tf.data.pipeline import RetrievalData, file_split
from saat_tf.data.scenes import scenes_data
from saat_tf.progress import Track, silent
from saat_tf.strict_json import read_object, wrong_fields
from saat_tf.text_lists import DataError

# What every program that reads a card takes from it, by type.
CARD_FIELDS = {
    "dataset": str,
    "backbone": str,
    "code_length": int,
    "epsilon_255": int | float,
    "chance_map": int | float,
    "config": dict,
    "versions": dict,
    "results": list,
}
ROW_FIELDS = {"defense": str}
REMEDY = "It is not the card of a run: restore it, or repeat the run."


def read_card(run_dir: Path) -> dict:
    """Return the card of a finished run, with all of `CARD_FIELDS`.

    Raises:
        DataError: the folder has no card, or it is none.
    """
    file = run_dir / "card.json"
    if not file.is_file():
        raise DataError(f"{file}: no such file. --run-dir must name the folder of a finished run.")
    card = read_object(file, CARD_FIELDS, remedy=REMEDY)
    if wrong := _wrong_parts(card):
        raise DataError(f"{file}: {', '.join(wrong)} missing, of another type or out of range. {REMEDY}")
    return card


def _wrong_parts(card: dict) -> list[str]:
    """Name the parts of fields that a card lacks or has of another type."""
    wrong = []
    size, fraction = (card["config"].get(name, 1.0) for name in ("image_size", "crop_fraction"))
    if not isinstance(size, int) or size < 1:
        wrong.append("config.image_size")
    if not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        wrong.append("config.crop_fraction")
    rows = enumerate(card["results"])
    return wrong + [f"results[{i}]" for i, row in rows if not isinstance(row, dict) or wrong_fields(row, ROW_FIELDS)]


def resize_size(card: dict) -> int:
    """Return the shorter side, in pixels, that images are resized to before the center cut."""
    return round(card["config"]["image_size"] / card["config"].get("crop_fraction", 1.0))


def applies_orientation(card: dict) -> bool:
    """Return whether a run turned images as their EXIF data say; runs on files from before the option did not."""
    config = card["config"]
    return not config.get("ignore_orientation", "crop_fraction" in config)


def load_run_data(run_dir: Path, card: dict, data_dir: Path | None = None, track: Track = silent) -> RetrievalData:
    """Load what a finished run was trained on and searched: drawn again, or by the lists that the run keeps.

    Args:
        run_dir: folder of the run; its split/ says which images.
        card: of the run, from `read_card`.
        data_dir: a folder of the same layout to read instead, for images that are no longer where the run found them.
        track: shows progress.

    Raises:
        DataError: the images are missing or damaged, the run is too old to keep its lists, or its data are drawn and
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
    if data_dir is not None and "query_share" in config:
        lists, class_names = class_folder_lists(data_dir, config["query_share"], seed=config["split_seed"])
        if config["num_labels"] is not None:
            lists = keep_columns(lists, config["num_labels"], data_dir)
    else:
        lists = read_image_lists(data_dir or kept, num_classes=config["num_labels"] if data_dir else None)
        class_names = tuple(read_class_names(data_dir or kept, lists.train.labels.shape[1]))
    skip = data_dir is not None and config.get("skip_unreadable", False)
    lists = drop_images(lists, check_images(lists, track, skip=skip))
    if data_dir is not None:
        train = lists.train.take(range(len(lists.train.paths))[: config["limit_train"]])
        lists = dataclasses.replace(lists, train=train)
    size = config["image_size"]
    resized, turned = resize_size(card), applies_orientation(card)
    splits = (
        file_split(images, size, resized, apply_orientation=turned)
        for images in (lists.train, lists.database, lists.test)
    )
    return RetrievalData(card["dataset"], class_names[: lists.train.labels.shape[1]], *splits)
