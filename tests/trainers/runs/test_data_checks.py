"""What trainers say of a data set before they train: copies of queries, in image files and in TFRecord files."""

import shutil

import numpy as np
import pytest
from PIL import Image

from saat_tf.data import DataError, RetrievalData, array_split, read_image_lists, record_split, write_records
from trainers.recipes.corel5k import HOW_TO_GET, Corel5kRecipe
from trainers.recipes.file_data import load_files
from trainers.runs.data_checks import check_data

pytestmark = pytest.mark.slow

SIDE = 8
NAMES = {"train": ["a", "b", "copy"], "database": ["a", "b", "c", "copy"], "test": ["d", "e"]}
INFLATES, MEASURED = "A query that finds itself inflates the score", "A model that was trained on its queries"


@pytest.fixture
def folder(tmp_path):
    """A folder in the list format in which e.png stands as copy.png in train and database."""
    for split, names in NAMES.items():
        (tmp_path / f"{split}_img.txt").write_text("".join(f"{name}.png\n" for name in names))
        (tmp_path / f"{split}_label.txt").write_text("".join(f"{i % 2} {1 - i % 2}\n" for i in range(len(names))))
        for name in names:
            Image.new("RGB", (SIDE, SIDE), (ord(name[0]), 0, len(name))).save(tmp_path / f"{name}.png")
    shutil.copyfile(tmp_path / "e.png", tmp_path / "copy.png")
    return tmp_path


def from_files(folder):
    recipe = Corel5kRecipe(data_dir=folder, image_size=SIDE, backbone="small_cnn", pretrained=False)
    return load_files(recipe, "corel5k", HOW_TO_GET)


def from_records(folder):
    lists = read_image_lists(folder)
    for images in (lists.train, lists.database, lists.test):
        write_records(images, folder / "records")
    splits = (record_split(folder / "records", name, SIDE, SIDE) for name in ("train", "database", "test"))
    return RetrievalData("mine", ("x", "y"), *splits)


SAID = {
    "files": (from_files, "_img.txt", ("test_img.txt:2: e.png (database_img.txt:4)",
                                       "test_img.txt:2: e.png (train_img.txt:3)")),
    "records": (from_records, "", ("test:2: record 2 (database:4)", "test:2: record 2 (train:3)")),
}  # fmt: skip


@pytest.mark.parametrize("load, suffix, places", SAID.values(), ids=SAID)
def test_copies_of_queries_are_told_and_training_is_not_refused(folder, load, suffix, places, capsys):
    check_data(load(folder))
    said = " ".join(capsys.readouterr().out.split())
    for split, remedy, place in zip(("database", "train"), (INFLATES, MEASURED), places, strict=True):
        head = f"warning: {split}{suffix}: 1 of the 2 queries stand in it as copies, byte for byte. {remedy}"
        assert head in said and said.index(place) > said.index(head)
    assert said.count("warning:") == 2


@pytest.mark.parametrize("load", [from_files, from_records])
def test_data_without_copies_are_not_talked_about(folder, load, capsys):
    Image.new("RGB", (SIDE, SIDE), (1, 2, 3)).save(folder / "copy.png")
    check_data(load(folder))
    assert "warning" not in capsys.readouterr().out


def test_data_from_which_nothing_can_be_learned_are_refused(capsys):
    split = array_split(np.zeros((3, SIDE, SIDE, 3), np.float32), np.ones((3, 2), np.float32))
    with pytest.raises(DataError, match="every two of the 3 train rows share a label"):
        check_data(RetrievalData("mine", ("x", "y"), split, split, split))
