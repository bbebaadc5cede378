"""The list format: what reads, and that every fault names its file, its line and a remedy."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from saat_tf import text_lists
from saat_tf.data import DataError, list_format, read_image_lists, write_image_lists

# Labels of the good folder: three classes, two images a split.
IMAGES = {
    "train": ["images/a.jpg", "images/b.jpg"],
    "database": ["images/a.jpg", "images/c d.jpg"],
    "test": ["images/é.jpg", "images/f.jpg"],
}
LABELS = {"train": ["1 0 0", "0 1 1"], "database": ["1 0 0", "0 0 1"], "test": ["1 1 0", "0 1 0"]}


def write_list(folder, name, lines, newline="\n"):
    (folder / name).write_bytes("".join(line + newline for line in lines).encode())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for split, images in IMAGES.items():
        write_list(tmp_path, f"{split}_img.txt", images)
        write_list(tmp_path, f"{split}_label.txt", LABELS[split])
        for image in images:
            (tmp_path / image).touch()
    return tmp_path


def fault(folder, **options):
    with pytest.raises(DataError) as caught:
        read_image_lists(folder, **options)
    return str(caught.value)


def labels_of(rows):
    return np.array([row.split() for row in rows], np.float32)


def check_good(folder, lists):
    for split in ("train", "database", "test"):
        read = getattr(lists, split)
        assert read.name == split
        assert read.paths == tuple(folder / image for image in IMAGES[split])
        assert read.lines == (1, 2)
        assert read.labels.dtype == np.float32
        np.testing.assert_array_equal(read.labels, labels_of(LABELS[split]))


def test_a_good_folder_reads_in_the_order_of_its_lists(folder):
    check_good(folder, read_image_lists(folder))


def test_a_folder_may_be_named_by_a_string(folder):
    check_good(folder, read_image_lists(str(folder)))


@pytest.mark.parametrize("newline", ["\r\n", " \n", "\t\n"], ids=["CRLF", "space", "tab"])
def test_line_ends_of_other_systems_and_white_space_after_a_line_read_the_same(folder, newline):
    for split in IMAGES:
        write_list(folder, f"{split}_img.txt", IMAGES[split], newline)
        write_list(folder, f"{split}_label.txt", LABELS[split], newline)
    check_good(folder, read_image_lists(folder))


@pytest.mark.parametrize("end", ["", "\n", "\n\n\r\n"], ids=["none", "one", "several"])
def test_line_ends_at_the_end_of_a_list_do_not_matter(folder, end):
    for split in IMAGES:
        for name, lines in ((f"{split}_img.txt", IMAGES[split]), (f"{split}_label.txt", LABELS[split])):
            (folder / name).write_bytes(("\n".join(lines) + end).encode())
    check_good(folder, read_image_lists(folder))


def test_labels_may_stand_any_white_space_apart(folder):
    write_list(folder, "train_label.txt", [" 1\t0  0", "0 1 1"])
    check_good(folder, read_image_lists(folder))


def test_the_training_images_may_be_in_the_database(folder):
    lists = read_image_lists(folder)
    assert lists.train.paths[0] == lists.database.paths[0]


@pytest.mark.parametrize("name", [f"{split}_{kind}.txt" for split in IMAGES for kind in ("img", "label")])
def test_a_missing_list_is_named_and_the_layout_explained(folder, name):
    (folder / name).unlink()
    message = fault(folder)
    assert message.startswith(f"{folder / name}: no such file")
    for part in ("<split>_img.txt", "<split>_label.txt", "train", "database", "test"):
        assert part in message


@pytest.mark.parametrize("split", IMAGES)
def test_a_missing_image_is_named_with_its_line(folder, split):
    write_list(folder, f"{split}_img.txt", [IMAGES[split][0], "images/gone.jpg"])
    message = fault(folder)
    assert f"{folder / split}_img.txt:2: no such image: {folder / 'images/gone.jpg'}" in message
    assert "Restore it, or remove line 2 of both lists" in message


def test_a_folder_is_no_image(folder):
    write_list(folder, "train_img.txt", ["images", "images/b.jpg"])
    assert f"{folder / 'train_img.txt'}:1: no such image" in fault(folder)


@pytest.mark.parametrize("row, count", [("0 1", 2), ("0 1 1 0", 4), ("011", 1)])
def test_a_label_row_of_another_length_than_the_first_is_named(folder, row, count):
    write_list(folder, "database_label.txt", ["1 0 0", row])
    message = fault(folder)
    assert f"{folder / 'database_label.txt'}:2: expected 3 values, as line 1 has. Received: {count}." in message
    assert "one 0 or 1 for each class" in message


@pytest.mark.parametrize("value", ["2", "-1", "1.0", "cat", "nan", "True", "00", "1,"])
def test_a_label_that_is_neither_0_nor_1_is_named(folder, value):
    write_list(folder, "test_label.txt", ["1 1 0", f"0 {value} 0"])
    message = fault(folder)
    assert f"{folder / 'test_label.txt'}:2: labels must be 0 or 1." in message
    assert repr(value) in message


@pytest.mark.parametrize("kind", ["img", "label"])
def test_lists_of_different_lengths_are_named_with_their_lengths(folder, kind):
    lines = (IMAGES if kind == "img" else LABELS)["test"]
    write_list(folder, f"test_{kind}.txt", lines[:1])
    message = fault(folder)
    for name, count in (("img", 1 if kind == "img" else 2), ("label", 1 if kind == "label" else 2)):
        assert re.search(rf"{re.escape(str(folder / f'test_{name}.txt'))} has {count}\b", message)
    assert "one line for each image" in message


@pytest.mark.parametrize("content", ["", "\n", " \r\n\n"], ids=["nothing", "line end", "white space"])
def test_an_empty_list_is_named_and_the_layout_explained(folder, content):
    for kind in ("img", "label"):
        (folder / f"database_{kind}.txt").write_text(content)
    message = fault(folder)
    assert message.startswith(f"{folder / 'database_img.txt'}: the list is empty")
    assert "one image path a line" in message


@pytest.mark.parametrize("kind, remedy", [("img", "remove line 2"), ("label", "Each row needs one 0 or 1")])
def test_a_blank_line_in_the_middle_is_named(folder, kind, remedy):
    (folder / "images/g.jpg").touch()
    lines = {"img": [*IMAGES["train"], "images/g.jpg"], "label": [*LABELS["train"], "1 0 0"]}
    lines[kind][1] = ""
    for name in lines:
        write_list(folder, f"train_{name}.txt", lines[name])
    message = fault(folder)
    assert f"{folder / f'train_{kind}.txt'}:2:" in message
    assert remedy in message


@pytest.mark.parametrize("kind", ["img", "label"])
def test_a_blank_first_line_is_named(folder, kind):
    lines = {"img": list(IMAGES["train"]), "label": list(LABELS["train"])}
    lines[kind][0] = ""
    for name in lines:
        write_list(folder, f"train_{name}.txt", lines[name])
    assert f"{folder / f'train_{kind}.txt'}:1:" in fault(folder)


def test_a_query_in_the_database_is_named_at_both_places(folder):
    write_list(folder, "test_img.txt", ["images/f.jpg", "images/c d.jpg"])
    message = fault(folder)
    assert f"{folder / 'test_img.txt'}:2:" in message
    assert f"{folder / 'database_img.txt'}:2" in message
    assert "remove the queries from the database list" in message


@pytest.mark.parametrize("spelling", ["./images/c d.jpg", "images//c d.jpg", "images/../images/c d.jpg"])
def test_a_query_in_the_database_is_found_however_its_path_is_spelt(folder, spelling):
    write_list(folder, "test_img.txt", ["images/f.jpg", spelling])
    assert f"{folder / 'test_img.txt'}:2:" in fault(folder)


def test_lines_of_a_shared_query_are_those_of_the_files_when_labels_are_dropped(folder):
    # With one label kept, the first database row and the first query drop out of the lists.
    write_list(folder, "test_img.txt", ["images/f.jpg", "images/c d.jpg"])
    write_list(folder, "test_label.txt", ["0 1 0", "1 0 0"])
    write_list(folder, "database_label.txt", ["0 1 0", "1 0 0"])
    message = fault(folder, num_classes=1)
    assert f"{folder / 'test_img.txt'}:2:" in message
    assert f"{folder / 'database_img.txt'}:2" in message


def test_label_widths_that_differ_between_splits_are_named(folder):
    write_list(folder, "test_label.txt", ["1 1", "0 1"])
    message = fault(folder)
    assert str(folder) in message
    assert re.search(r"'train': 3\b.*'test': 2\b", message)
    assert "Use one set of classes" in message


@pytest.mark.parametrize("num_classes", [0, -1, 4])
def test_more_or_fewer_labels_than_there_are_cannot_be_kept(folder, num_classes):
    message = fault(folder, num_classes=num_classes)
    assert str(folder) in message and f" {num_classes} " in message
    assert "Ask for 1 to 3" in message


def test_a_split_without_one_of_the_kept_labels_is_named(folder):
    write_list(folder, "test_label.txt", ["0 1 0", "0 1 1"])
    message = fault(folder, num_classes=1)
    assert message.startswith(f"{folder / 'test_label.txt'}:")
    assert "no image has one of the first 1 labels. Keep more columns" in message


@pytest.mark.parametrize("name", ["train_img.txt", "test_label.txt"])
def test_a_list_that_is_not_utf_8_is_named(folder, name):
    (folder / name).write_bytes("images/é.jpg\n".encode("latin-1"))
    message = fault(folder)
    assert message.startswith(f"{folder / name}:")
    assert "UTF-8" in message


def test_kept_columns_are_the_first_and_images_without_a_kept_label_drop_out(folder):
    lists = read_image_lists(folder, num_classes=2)
    expected = {"train": [0, 1], "database": [0], "test": [0, 1]}
    for split, kept in expected.items():
        read = getattr(lists, split)
        assert read.paths == tuple(folder / IMAGES[split][i] for i in kept)
        assert read.lines == tuple(i + 1 for i in kept)
        np.testing.assert_array_equal(read.labels, labels_of(LABELS[split])[kept, :2])


def test_lines_stay_those_of_the_file_when_an_earlier_image_drops_out(folder):
    write_list(folder, "train_label.txt", ["0 0 1", "0 1 1"])
    train = read_image_lists(folder, num_classes=2).train
    assert (train.paths, train.lines) == ((folder / "images/b.jpg",), (2,))


def test_all_columns_kept_drops_images_without_any_label_and_no_others(folder):
    write_list(folder, "database_label.txt", ["0 0 0", "0 0 1"])
    assert len(read_image_lists(folder).database.paths) == 2
    assert read_image_lists(folder, num_classes=3).database.lines == (2,)


def test_take_keeps_paths_labels_and_lines_together(folder):
    taken = read_image_lists(folder).train.take([1])
    assert (taken.name, taken.paths, taken.lines) == ("train", (folder / "images/b.jpg",), (2,))
    np.testing.assert_array_equal(taken.labels, [[0, 1, 1]])


def test_a_data_error_is_a_value_error():
    assert issubclass(DataError, ValueError)


def test_a_missing_folder_is_named():
    assert "no_such_folder" in fault(Path("no_such_folder"))


def test_lists_may_be_gzipped(folder):
    for file in folder.glob("*.txt"):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    check_good(folder, read_image_lists(folder))


def test_a_plain_list_goes_before_a_gzipped_one(folder):
    (folder / "train_img.txt.gz").write_bytes(b"no gzip file")
    check_good(folder, read_image_lists(folder))


@pytest.mark.parametrize("content", [b"no gzip file", gzip.compress(b"images/a.jpg\n", mtime=0)[:-9], b""])
def test_what_is_no_whole_gzip_file_is_named(folder, content):
    (folder / "train_img.txt").unlink()
    (folder / "train_img.txt.gz").write_bytes(content)
    assert fault(folder).startswith(f"{folder / 'train_img.txt'}")


def test_a_list_that_unpacks_to_too_much_is_refused(folder, monkeypatch):
    (folder / "train_img.txt").unlink()
    (folder / "train_img.txt.gz").write_bytes(gzip.compress(b"x" * 2_000))
    monkeypatch.setattr(text_lists, "MAX_LIST_BYTES", 1_000)
    assert "unpacks to more than 1,000 bytes" in fault(folder)


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_what_is_written_reads_back(folder, suffix):
    lists, copy = read_image_lists(folder), folder / "sub" / "copy"
    write_image_lists(lists, ["bär", "cat", "dog"], copy, suffix=suffix)
    assert (copy / "classes.txt").read_text(encoding="utf-8") == "bär\ncat\ndog\n"
    assert {path.name for path in copy.iterdir()} == {"classes.txt"} | {
        f"{split}_{kind}{suffix}" for split in IMAGES for kind in ("img", "label")
    }
    again = read_image_lists(copy)
    for split in IMAGES:
        for path, image in zip(getattr(again, split).paths, IMAGES[split], strict=True):
            assert path == copy / "../.." / image
        np.testing.assert_array_equal(getattr(again, split).labels, labels_of(LABELS[split]))


def test_one_split_gives_one_gzip_file(folder):
    lists = read_image_lists(folder)
    for name in ("one", "two"):
        write_image_lists(lists, ["a", "b", "c"], folder / name, suffix=".txt.gz")
    names = {path.name for path in (folder / "one").iterdir()}
    assert all((folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes() for name in names)


@pytest.mark.parametrize("name", ["a\nb.jpg", " a.jpg", "a\rb.jpg", "a\\b.jpg", "\ufeffa.jpg", "a\udcff.jpg"])
def test_a_path_that_no_line_can_hold_is_refused(folder, name):
    (folder / name).touch()
    lists = read_image_lists(folder)
    changed = list_format.ImageList("test", (folder / name,), lists.test.labels[:1], (1,))
    with pytest.raises(DataError, match="a space at an end, a line break, a backslash or bytes that are not UTF-8"):
        write_image_lists(list_format.ImageLists(lists.train, lists.database, changed), ["a"], folder)
