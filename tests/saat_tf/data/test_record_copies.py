"""Copies of queries in TFRecord data and in files: found by contents, of which only those of equal length are read."""

import os

import numpy as np
import pytest
from PIL import Image

from saat_tf.data import ImageList, record_copies, record_split, split_rules, subset, write_records
from saat_tf.data.record_copies import record_copy_faults
from saat_tf.data.split_rules import REMEDIES, WARNING, Rows, copy_faults

SIDE = 8


# Images of one shade each. Without compression all files have one length; SHORT is compressed, and shorter.
SHORT = 250
SPLITS = {"train": [1, 2, 3, SHORT], "database": [1, 4, 5, 6, 7], "test": [9, 2, 7, 8, 7]}


def write(folder, splits):
    lists = {}
    for name, shades in splits.items():
        paths = tuple(folder / f"{name}-{place}.png" for place in range(len(shades)))
        for path, shade in zip(paths, shades, strict=True):
            image = Image.fromarray(np.full((SIDE, SIDE, 3), shade, np.uint8))
            image.save(path, compress_level=9 if shade == SHORT else 0)
        labels = np.eye(len(shades), 5, dtype=np.float32)
        lists[name] = ImageList(name, paths, labels, tuple(range(1, len(paths) + 1)))
    return lists


def records_of(lists, folder):
    for images in lists.values():
        write_records(images, folder, images_per_file=2)
    return {name: record_split(folder, name, SIDE, SIDE) for name in lists}


@pytest.fixture
def digested(monkeypatch):
    """The contents that are hashed."""
    seen = []

    def count(contents):
        seen.append(contents)
        return digest(contents)

    digest = split_rules.digest
    monkeypatch.setattr(split_rules, "digest", count)
    monkeypatch.setattr(record_copies, "digest", count)
    return seen


def test_a_query_in_another_split_of_records_is_found_and_only_files_of_its_length_are_hashed(tmp_path, digested):
    lists = write(tmp_path, SPLITS)
    splits = records_of(lists, tmp_path / "records")
    for name, images in lists.items():
        assert splits[name].lengths.tolist() == [path.stat().st_size for path in images.paths]
    database, train = record_copy_faults(splits)
    assert database.level == train.level == WARNING
    assert database.text == f"database: 2 of the 5 queries stand in it as copies, byte for byte. {REMEDIES['database']}"
    assert database.places == ("test:3: record 3 (database:5)", "test:5: record 5 (database:5)")
    assert train.text == f"train: 1 of the 5 queries stand in it as copies, byte for byte. {REMEDIES['train']}"
    assert train.places == ("test:2: record 2 (train:2)",)
    assert len({path.stat().st_size for images in lists.values() for path in images.paths}) == 2
    assert len(digested) == sum(map(len, SPLITS.values())) - 1


def test_nothing_is_hashed_where_no_length_is_that_of_a_query(tmp_path, digested):
    splits = records_of(write(tmp_path, {"train": [1, 2], "database": [1, 3], "test": [SHORT]}), tmp_path / "records")
    assert list(record_copy_faults(splits)) == [] and digested == []


def test_without_queries_nothing_is_looked_for(tmp_path):
    assert list(record_copy_faults({})) == []


def test_parts_of_records_know_their_lengths(tmp_path):
    split = records_of(write(tmp_path, {"train": [1, SHORT, 2, 3]}), tmp_path / "records")["train"]
    sizes = split.lengths.tolist()
    assert sizes[1] < sizes[0]
    assert subset(split, np.array([1, 3])).lengths.tolist() == [sizes[1], sizes[3]]
    assert [part.lengths.tolist() for part in (split.shard(0, 2), split.shard(1, 2))] == [sizes[:2], sizes[2:]]


def test_of_files_only_those_as_long_as_a_query_are_read_and_a_hard_link_once(tmp_path, digested, monkeypatch):
    sizes = {"query": 10, "linked": None, "equal": 10, "other": 10, "longer": 11, "longer too": 11, "lone": 12}
    for name, size in sizes.items():
        if size is not None:
            (tmp_path / name).write_bytes((b"q" if name in ("query", "equal") else name[:1].encode()) * size)
    os.link(tmp_path / "query", tmp_path / "linked")
    train = [name for name in sizes if name != "query"]
    rows = {
        "train": Rows("train_img.txt", train, [str(tmp_path / name) for name in train], range(1, len(train) + 1)),
        "test": Rows("test_img.txt", ["query"], [str(tmp_path / "query")], [1]),
    }
    (fault,) = copy_faults(rows)
    assert fault.places == ("test_img.txt:1: query (train_img.txt:1)",)
    assert sorted(digested) == [b"o" * 10, b"q" * 10, b"q" * 10]  # the query with its link once, equal and other
