"""Lists of images, ids and metadata: one rule for all of them."""

import os

import pytest

from export.bulk.images import list_images
from export.bulk.item_lists import read_ids, read_metadata
from saat_tf.text_lists import DataError

IMAGES = {
    "mark": ("\ufeffa.jpg\nb.jpg\n", ["a.jpg", "b.jpg"]),
    "trailing space": ("a.jpg \nb.jpg\t\r\n", ["a.jpg", "b.jpg"]),
    "one form": ("./a.jpg\na.jpg\nsub/../a.jpg\nsub\\..\\a.jpg\n", ["a.jpg"]),
    "backslashes": ("sub\\a.jpg\n", ["sub/a.jpg"]),
    "no line end": ("a\u2028b.jpg\nc\x85.jpg\n", ["a\u2028b.jpg", "c\x85.jpg"]),
    "blank lines": ("\n\na.jpg\n\nb.jpg\n", ["a.jpg", "b.jpg"]),
}


@pytest.mark.parametrize("text, ids", IMAGES.values(), ids=IMAGES)
def test_a_list_of_images_has_the_ids_of_the_rule(tmp_path, text, ids):
    (tmp_path / "list.txt").write_bytes(text.encode())
    images = list_images(tmp_path / "list.txt")
    assert (images.root, images.ids, images.passed_over) == (tmp_path, ids, [])


@pytest.mark.parametrize("line", ["../a.jpg", "/etc/a.jpg", "..\\a.jpg", "sub/../../a.jpg"])
def test_a_path_that_leaves_the_folder_is_refused_unless_the_root_holds_it(tmp_path, line):
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "list.txt").write_text(f"b.jpg\n{line}\n")
    with pytest.raises(DataError, match=r"list\.txt:2: .* is not in .*lists\. Name a folder .* by --root"):
        list_images(folder / "list.txt")
    if "etc" not in line:
        images = list_images(folder / "list.txt", tmp_path)
        assert (images.root, images.ids) == (tmp_path, ["lists/b.jpg", "a.jpg"])


def test_a_folder_has_all_kinds_of_jpeg_and_names_what_is_passed_over(tmp_path):
    names = ["a.jfif", "b.JPE", "c.jpg", "d.TIF", "e.tiff", "f.heic", "g.txt", ".h.tif", "i"]
    for name in names:
        (tmp_path / name).touch()
    images = list_images(tmp_path)
    assert images.ids == ["a.jfif", "b.JPE", "c.jpg"]
    assert images.passed_over == ["d.TIF", "e.tiff", "f.heic"]


def test_a_folder_of_other_images_alone_says_so(tmp_path):
    (tmp_path / "d.tif").touch()
    with pytest.raises(DataError, match=r"1 are images of another kind, such as d\.tif\. Convert them"):
        list_images(tmp_path)


METADATA = {
    "mark, CRLF and blank lines": ('\ufeff{"id": "a", "t": 1}\r\n\n{"id": "b"}\n', {"a": {"t": 1}, "b": {}}),
    "separators inside": ('{"id": "a", "t": "x\u2028y\x85z"}\n', {"a": {"t": "x\u2028y\x85z"}}),
    "one form": ('{"id": "./s//a.jpg", "t": null}', {"s/a.jpg": {"t": None}}),
    "a backslash of a name": ('{"id": "a\\\\b.jpg"}', {"a\\b.jpg": {}}),
}


@pytest.mark.parametrize("text, metadata", METADATA.values(), ids=METADATA)
def test_metadata_is_that_of_the_rule_and_ids_too(tmp_path, text, metadata):
    (tmp_path / "more.jsonl").write_bytes(text.encode())
    assert read_metadata(tmp_path / "more.jsonl") == metadata


REFUSED = {
    "twice": ('{"id": "a"}\n\n{"id": "./a"}\n', ":3: the id 'a' is also at line 1. Remove one of them."),
    "NaN": ('{"id": "a", "t": NaN}', ":1: no JSON that is read here (it contains NaN"),
    "no id": ('{"t": 1}', ':1: expected a JSON object with an "id", a string'),
    "an id of a list": ('{"id": ["a"]}', ':1: expected a JSON object with an "id", a string'),
    "no object": ('["a"]', ':1: expected a JSON object with an "id", a string'),
    "cut short": ('{"id": "a"}\n{"id"', ":2: not whole JSON"),
    "deep": ('{"id": "a", "t": ' + "[" * 5000 + "]" * 5000 + "}", ":1: no JSON that is read here (it is nested"),
    "UTF-16": ('{"id": "a"}'.encode("utf-16").decode("latin-1"), "not a UTF-8 text file"),
}


@pytest.mark.parametrize("text, message", REFUSED.values(), ids=REFUSED)
def test_metadata_that_is_wrong_is_named_with_its_line(tmp_path, text, message):
    file = tmp_path / "more.jsonl"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_metadata(file)
    assert str(caught.value).startswith(f"{file}") and message in str(caught.value)


def test_ids_are_read_by_the_same_rule(tmp_path):
    file = tmp_path / "ids.jsonl"
    file.write_bytes('\ufeff"./a.jpg"\r\n\n"x\u2028"\n"\\udcff"\n'.encode())
    assert read_ids(file) == ["a.jpg", "x\u2028", os.fsdecode(b"\xff")]
    for text, message in (('"a"\n"./a"\n', ":2: the id 'a' is also at line 1"), ("1\n", ":1: expected a JSON str")):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            read_ids(file)
