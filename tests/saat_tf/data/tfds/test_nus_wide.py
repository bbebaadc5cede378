"""NUS-WIDE from small lists in the original layout, with images in folders, flat, and missing."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from saat_tf.data import DataError
from saat_tf.data.tfds.nus_wide import read_nus_wide


def fault(original, **options):
    with pytest.raises(DataError) as caught:
        read_nus_wide(original.folder, **options)
    return str(caught.value)


def concept_file(original, concept):
    return original.folder / f"Groundtruth/AllLabels/Labels_{concept}.txt"


def test_images_with_one_of_the_21_commonest_concepts_are_kept(nus_original, labels_of):
    images = read_nus_wide(nus_original.folder)
    assert images.class_names == tuple(f"c{c:02}" for c in range(21))
    assert labels_of(images) == nus_original.labels
    for name, file in zip(images.ids, images.files, strict=True):
        assert file == nus_original.folder / "Flickr" / name


def test_equal_counts_are_in_alphabetical_order(nus_original):
    for concept in ("c05", "c04"):
        concept_file(nus_original, concept).write_bytes(concept_file(nus_original, "c06").read_bytes())
    names = read_nus_wide(nus_original.folder).class_names
    assert names == tuple(f"c{c:02}" for c in (0, 1, 2, 3, 4, 5, 6, *range(7, 21)))


@pytest.mark.parametrize("images_dir", ["Flickr", "images", "image"])
def test_images_may_lie_in_one_folder(nus_original, labels_of, images_dir):
    flat = nus_original.folder / "flat"
    flat.mkdir()
    for file in (nus_original.folder / "Flickr").rglob("*.jpg"):
        file.rename(flat / file.name)
    shutil.rmtree(nus_original.folder / "Flickr")
    flat.rename(nus_original.folder / images_dir)
    images = read_nus_wide(nus_original.folder)
    assert labels_of(images) == nus_original.labels
    for name, file in zip(images.ids, images.files, strict=True):
        assert file == nus_original.folder / images_dir / name.split("/")[1]


@pytest.mark.parametrize("inside", ["Groundtruth", "."], ids=["folder in the archive", "no folder"])
def test_the_lists_may_stay_in_their_archives(nus_original, labels_of, inside):
    folder = nus_original.folder
    for name, part in (("Groundtruth", inside), ("ImageList", "ImageList" if inside != "." else ".")):
        root = folder if part != "." else folder / name
        shutil.make_archive(folder / name, "zip", root, part if part != "." else None)
        shutil.rmtree(folder / name)
    assert labels_of(read_nus_wide(folder)) == nus_original.labels


@pytest.mark.parametrize(
    "missing, what",
    [("Groundtruth", "ground truth"), ("ImageList", "image list"), ("Flickr", "folder of images")],
)
def test_what_is_not_there_is_named_with_what_to_fetch(nus_original, missing, what):
    shutil.rmtree(nus_original.folder / missing)
    message = fault(nus_original)
    assert f"there is no {what}" in message and "Groundtruth.zip" in message and "Flickr/actor/" in message


def test_missing_images_are_counted_and_listed_or_skipped_when_asked(nus_original, labels_of):
    gone = ["zoo/0000_7000.jpg", "actor/0003_7003.jpg"]
    for name in (*gone, "actor/0029_7029.jpg"):  # the last one has no common concept: nobody misses it
        (nus_original.folder / "Flickr" / name).unlink()
    message = fault(nus_original)
    assert message.startswith("2 of 25 images are missing:")
    for name in gone:
        assert str(nus_original.folder / "Flickr" / name) in message
    images = read_nus_wide(nus_original.folder, skip_missing=True)
    assert images.skipped == tuple(sorted(gone))
    assert labels_of(images) == {key: value for key, value in nus_original.labels.items() if key not in gone}
    assert images.class_names == tuple(f"c{c:02}" for c in range(21))


def test_of_many_missing_images_the_first_are_listed(nus_original):
    for file in (nus_original.folder / "Flickr").rglob("*.jpg"):
        if "0001_" not in file.name:
            file.unlink()
    message = fault(nus_original)
    assert message.startswith("24 of 25 images are missing:") and "and 4 more" in message
    assert sum(line.endswith(".jpg") for line in message.splitlines()) == 20


def test_a_concept_less_is_an_error(nus_original):
    concept_file(nus_original, "rare07").unlink()
    assert "expected 81 files Labels_<concept>.txt" in fault(nus_original)


@pytest.mark.parametrize("rows", [29, 31])
def test_lists_of_other_lengths_are_named(nus_original, rows):
    concept_file(nus_original, "c03").write_text("0\n" * rows)
    message = fault(nus_original)
    assert f"{concept_file(nus_original, 'c03')} has {rows} lines and Imagelist.txt has 30" in message


@pytest.mark.parametrize("value", ["2", "", "yes", "0 1"])
def test_what_is_no_label_is_named_with_its_line(nus_original, value):
    concept_file(nus_original, "c03").write_text("0\n1\n" + f"{value}\n" + "0\n" * 27)
    assert f"{concept_file(nus_original, 'c03')}:3: labels must be 0 or 1. Received: {value!r}" in fault(nus_original)


@pytest.mark.parametrize("line", ["0001_1.jpg", "a\\b\\c.jpg", "..\\c.jpg", "\\c.jpg", ""])
def test_what_is_no_image_of_a_concept_is_named_with_its_line(nus_original, line):
    file = nus_original.folder / "ImageList/Imagelist.txt"
    lines = file.read_text().splitlines()
    lines[4] = line
    file.write_text("\n".join(lines) + "\n")
    assert f"{file}:5: expected a line such as actor\\0001_2124494179.jpg" in fault(nus_original)


def test_an_image_listed_twice_is_an_error(nus_original):
    file = nus_original.folder / "ImageList/Imagelist.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], lines[0]]).replace(lines[1], lines[0]) + "\n")
    assert "two images are named zoo/0000_7000.jpg" in fault(nus_original)


@pytest.mark.parametrize("config, complete", [("", True), ("", False), ("/skip_missing", False)])
def test_tensorflow_datasets_loads_it_by_name(nus_original, tmp_path, config, complete):
    if not complete:
        (nus_original.folder / "Flickr/zoo/0000_7000.jpg").unlink()
    kwargs = {"download_config": tfds.download.DownloadConfig(manual_dir=nus_original.folder, try_download_gcs=False)}
    arguments = {"split": "images", "data_dir": tmp_path / "tfds", "download_and_prepare_kwargs": kwargs}
    if not complete and not config:
        with pytest.raises(DataError, match=r"1 of 25 images are missing:\n  .*0000_7000\.jpg"):
            tfds.load("nus_wide", **arguments)
        return
    examples, info = tfds.load(f"nus_wide{config}", with_info=True, **arguments)
    names = info.metadata["class_names"]
    found = {e["id"].decode(): {names[c] for c in np.flatnonzero(e["labels"])} for e in tfds.as_numpy(examples)}
    assert info.metadata["skipped"] == ([] if complete else ["zoo/0000_7000.jpg"])
    assert found == {k: v for k, v in nus_original.labels.items() if complete or k != "zoo/0000_7000.jpg"}
