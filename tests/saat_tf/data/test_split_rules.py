"""Queries in other splits, by name and by content, and labels from which nothing follows."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from saat_tf.data import DataError, read_image_lists
from saat_tf.data.label_rules import label_faults
from saat_tf.data.split_rules import ERROR, WARNING
from saat_tf.data.validation.inspection import inspect_folder

IMAGES = {"train": ["a.png", "b.png"], "database": ["a.png", "b.png", "c.png"], "test": ["d.png", "e.png"]}
LABELS = {"train": ["1 0", "0 1"], "database": ["1 0", "0 1", "1 1"], "test": ["1 0", "0 1"]}


@pytest.fixture
def folder(tmp_path):
    for number, split in enumerate(IMAGES):
        (tmp_path / f"{split}_img.txt").write_text("".join(f"{image}\n" for image in IMAGES[split]))
        (tmp_path / f"{split}_label.txt").write_text("".join(f"{row}\n" for row in LABELS[split]))
        for shade, image in enumerate(IMAGES[split]):
            Image.new("L", (9, 7), 80 * (number // 2) + 20 * shade).save(tmp_path / image)
    return tmp_path


@pytest.mark.parametrize("split, lines, remedy", [
    ("train", ["a.png", "./d.png"], "A model that was trained on its queries is not measured"),
    ("database", ["a.png", "sub\\..\\d.png", "c.png"], "A query that finds itself inflates the score"),
])  # fmt: skip
def test_a_query_in_another_split_is_refused_in_the_words_of_the_validator(folder, split, lines, remedy):
    (folder / f"{split}_img.txt").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(DataError) as caught:
        read_image_lists(folder)
    (inspection,), _ = inspect_folder(folder)
    (fault,) = (fault for fault in inspection.faults if fault.level == ERROR)
    assert fault.text.startswith(f"{split}_img.txt: contains 1 of the 2 queries. {remedy}")
    assert str(caught.value).startswith(f"{folder}/{fault.text}")
    assert f"{folder}/test_img.txt:1: d.png ({folder}/{split}_img.txt:2)" in str(caught.value)


@pytest.mark.parametrize("copy", [shutil.copyfile, os.link], ids=["a copy", "a hard link"])
@pytest.mark.parametrize("split, row", [("train", 1), ("database", 1), ("database", 2)])
def test_a_query_under_another_name_is_found_by_its_content(folder, copy, split, row):
    name = IMAGES[split][row]
    (folder / name).unlink()
    copy(folder / "e.png", folder / name)
    read_image_lists(folder)
    (inspection,), _ = inspect_folder(folder)
    found = {fault.text.split(":")[0]: fault for fault in inspection.faults}
    expected = {other: IMAGES[other].index(name) for other in ("train", "database") if name in IMAGES[other]}
    assert found.keys() == {f"{other}_img.txt" for other in expected}
    for other, line in expected.items():
        fault = found[f"{other}_img.txt"]
        assert fault.level == WARNING and "1 of the 2 queries stand in it as copies, byte for byte." in fault.text
        assert fault.places == (f"test_img.txt:2: e.png ({other}_img.txt:{line + 1})",)


def test_files_of_one_length_and_other_content_are_no_copies(folder):
    for number, name in enumerate("abcde"):
        Image.new("L", (9, 7), 10 * number).save(folder / f"{name}.png", compress_level=0)
    assert len({(folder / f"{name}.png").stat().st_size for name in "abcde"}) == 1
    (inspection,), _ = inspect_folder(folder)
    assert inspection.faults == ()


SOUND = {"train": [[1, 0], [0, 1]], "database": [[1, 0], [0, 1]], "test": [[1, 0]]}
LABEL_FAULTS = {
    "sound": ({}, []),
    "no train labels": ({"train": [[0, 0], [0, 0]]},
                        [(WARNING, "2 of 2 train rows have no label"), (ERROR, "none of the 2 train rows has")]),
    "one train label": ({"train": [[1, 0], [1, 1]]}, [(ERROR, "every two of the 2 train rows share a label")]),
    "one train row": ({"train": [[1, 0]]}, [(ERROR, "every two of the 1 train rows share a label")]),
    "a bare train row": ({"train": [[1, 0], [0, 0]]}, [(WARNING, "1 of 2 train rows have no label")]),
    "no query labels": ({"test": [[0, 0]]},
                        [(WARNING, "1 of 1 queries have no label"), (ERROR, "no query has a relevant item")]),
    "no database labels": ({"database": [[0, 0]]},
                           [(WARNING, "1 of 1 database rows have no label"), (ERROR, "no query has a relevant item")]),
    "a query alone": ({"test": [[1, 0], [0, 0]]},
                      [(WARNING, "1 of 2 queries have no label"), (WARNING, "MAP is at most 0.5000")]),
    "all relevant": ({"database": [[1, 0], [1, 1]]}, [(ERROR, "every database item is relevant to every query")]),
}  # fmt: skip


@pytest.mark.parametrize("change, expected", LABEL_FAULTS.values(), ids=LABEL_FAULTS)
def test_labels_that_allow_nothing_are_told(change, expected):
    labels = {split: np.float32(rows) for split, rows in {**SOUND, **change}.items()}
    found = list(label_faults(labels, {split: split for split in labels}, lambda split, row: f"{split}:{row}"))
    assert [fault.level for fault in found] == [level for level, _ in expected]
    assert all(text in fault.text for fault, (_, text) in zip(found, expected, strict=True))
