"""FLICKR-25K from small archives in MIRFLICKR's layout, as archives, as folders, and as a builder."""

import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from saat_tf.data import DataError, labeled_images
from saat_tf.data.tfds import flickr25k
from saat_tf.data.tfds.flickr25k import read_flickr25k


def fault(folder, **options):
    with pytest.raises(DataError) as caught:
        read_flickr25k(folder, **options)
    return str(caught.value)


def archived(folder, name, change):
    """Rewrite an archive: `change` takes (name, contents) of each file and returns what to write, or None."""
    with zipfile.ZipFile(folder / name) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.namelist()]
    with zipfile.ZipFile(folder / name, "w") as archive:
        for entry, contents in entries:
            changed = change(entry, contents)
            if changed is not None:
                archive.writestr(entry, changed)


def test_the_columns_are_24_potential_and_14_relevant_labels():
    names = flickr25k.CLASS_NAMES
    assert len(names) == len(set(names)) == 38
    assert list(names[:24]) == sorted(names[:24]) and list(names[24:]) == sorted(names[24:])
    assert all(name.endswith("_r1") and name.removesuffix("_r1") in names[:24] for name in names[24:])


@pytest.mark.parametrize("form", ["archives", "folders", "annotations inside"])
def test_archives_and_folders_read_alike(flickr_original, labels_of, form):
    folder = flickr_original.folder
    if form != "archives":
        flickr_original.unpack()
    if form == "annotations inside":
        (folder / "mirflickr25k_annotations_v080").rename(folder / "mirflickr" / "annotations")
    images = read_flickr25k(folder)
    assert labels_of(images) == flickr_original.labels
    assert images.labels.shape == (12, 38) and not images.labels[images.ids.index("im11.jpg")].any()


def test_24_columns_are_the_first_of_38(flickr_original):
    images = read_flickr25k(flickr_original.folder, columns=24)
    assert images.class_names == flickr25k.CLASS_NAMES[:24]
    np.testing.assert_array_equal(images.labels, read_flickr25k(flickr_original.folder).labels[:, :24])


def test_other_columns_are_refused(flickr_original):
    with pytest.raises(ValueError, match=r"38 or 24\. Received: 14"):
        read_flickr25k(flickr_original.folder, columns=14)


@pytest.mark.parametrize("name, what", [("mirflickr25k", "images"), ("mirflickr25k_annotations_v080", "annotations")])
def test_a_missing_archive_is_named_with_what_to_fetch(flickr_original, name, what):
    (flickr_original.folder / f"{name}.zip").unlink()
    message = fault(flickr_original.folder)
    assert f"there are no {what}" in message and f"{name}.zip" in message


@pytest.mark.parametrize("name", ["mirflickr25k.zip", "mirflickr25k_annotations_v080.zip"])
def test_a_truncated_archive_is_named(flickr_original, name):
    file = flickr_original.folder / name
    file.write_bytes(file.read_bytes()[:-200])
    message = fault(flickr_original.folder)
    assert message.startswith(f"{file}: not a whole zip archive") and "Fetch it again" in message


def test_a_missing_annotation_file_is_named(flickr_original):
    archived(flickr_original.folder, "mirflickr25k_annotations_v080.zip", lambda n, c: None if n == "sea.txt" else c)
    assert "sea.txt: no such file" in fault(flickr_original.folder)


@pytest.mark.parametrize("line", ["0", "13", "-1", "im1.jpg", "", "1.0", "²"])
def test_what_is_no_image_number_is_named_with_its_line(flickr_original, line):
    flickr_original.unpack()
    file = flickr_original.folder / "mirflickr25k_annotations_v080" / "food.txt"
    file.write_text(f"1\n{line}\n2\n", encoding="utf-8")
    assert f"{file}:2: expected an image number from 1 to 12. Received: {line!r}" in fault(flickr_original.folder)


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_missing_images_are_listed_or_skipped_when_asked(flickr_original, packed):
    folder = flickr_original.folder
    archived(folder, "mirflickr25k.zip", lambda n, c: None if n in ("mirflickr/im3.jpg", "mirflickr/im12.jpg") else c)
    if not packed:
        flickr_original.unpack()
    message = fault(folder)
    assert message.startswith("2 of 12 images are missing:") and "im3.jpg" in message and "im12.jpg" in message
    images = read_flickr25k(folder, skip_missing=True)
    assert len(images) == 10 and images.skipped == ("im12.jpg", "im3.jpg")


@pytest.mark.parametrize("bound", ["MAX_FILE_BYTES", "MAX_ARCHIVE_BYTES"])
def test_an_archive_of_more_than_is_allowed_is_refused(flickr_original, monkeypatch, bound):
    monkeypatch.setattr(labeled_images, bound, 100)
    assert "fetch it again" in fault(flickr_original.folder)


def test_images_in_an_archive_are_written_inside_the_folder_alone(flickr_original, tmp_path):
    with zipfile.ZipFile(flickr_original.folder / "mirflickr25k.zip", "a") as archive:
        archive.writestr("mirflickr/../../escaped.jpg", b"x")
        archive.writestr("/tmp/absolute.jpg", b"x")
    images = read_flickr25k(flickr_original.folder)
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "out"
    written = images.on_disk(out)
    assert set(tmp_path.rglob("*")) - before == {out, *(out / f"im{i}.jpg" for i in range(1, 13))}
    for packed, file in zip(images.files, written.files, strict=True):
        assert file.read_bytes() == packed.read_bytes()


def test_a_damaged_image_in_an_archive_is_named(flickr_original, tmp_path):
    file = flickr_original.folder / "mirflickr25k.zip"
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("mirflickr/im5.jpg")
    contents = bytearray(file.read_bytes())
    contents[info.header_offset + 100] ^= 255
    file.write_bytes(contents)
    with pytest.raises(DataError, match=r"im5\.jpg: cannot be unpacked .* Fetch the archive again"):
        read_flickr25k(flickr_original.folder).on_disk(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) < 12


def load(name, manual_dir, data_dir):
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    kwargs = {"download_config": config}
    return tfds.load(
        name, split="images", data_dir=data_dir, download_and_prepare_kwargs=kwargs, with_info=True, shuffle_files=False
    )


@pytest.mark.parametrize("name, columns", [("flickr25k", 38), ("flickr25k/24", 24)])
def test_tensorflow_datasets_loads_it_by_name_and_caches_it(flickr_original, tmp_path, name, columns):
    folder = flickr_original.folder
    load(name, folder, tmp_path / "tfds")
    shutil.rmtree(folder)  # from here on, what was cached must do
    examples, info = load(name, folder, tmp_path / "tfds")
    assert info.metadata["class_names"] == list(flickr25k.CLASS_NAMES[:columns]) and info.metadata["skipped"] == []
    found = {}
    for example in tfds.as_numpy(examples):
        assert example["image"].shape == (8, 10, 3) and example["image"].dtype == np.uint8
        assert example["labels"].shape == (columns,)
        labels = {info.metadata["class_names"][c] for c in np.flatnonzero(example["labels"])}
        found[example["id"].decode()] = labels
    assert found == {
        image: {label for label in labels if columns == 38 or not label.endswith("_r1")}
        for image, labels in flickr_original.labels.items()
    }


def test_the_cached_images_are_those_of_the_archive(flickr_original, tmp_path):
    with zipfile.ZipFile(flickr_original.folder / "mirflickr25k.zip") as archive:
        expected = {f"im{i}.jpg": archive.read(f"mirflickr/im{i}.jpg") for i in range(1, 13)}
    examples, _ = load("flickr25k", flickr_original.folder, tmp_path / "tfds")
    for example in tfds.as_numpy(examples):
        pixels = tf.io.decode_jpeg(expected[example["id"].decode()])
        np.testing.assert_array_equal(example["image"], pixels)


def test_a_truncated_image_ends_the_caching_and_is_named(flickr_original, tmp_path):
    archived(
        flickr_original.folder,
        "mirflickr25k.zip",
        lambda name, contents: contents[: len(contents) // 2] if name.endswith("im7.jpg") else contents,
    )
    with pytest.raises(DataError, match=r"cannot read .*im7\.jpg"):
        load("flickr25k", flickr_original.folder, tmp_path / "tfds")
    assert not list((tmp_path / "tfds").rglob("*.tfrecord*"))


def test_without_the_archives_tensorflow_datasets_says_what_to_fetch(flickr_original, tmp_path):
    flickr_original.unpack()
    (flickr_original.folder / "mirflickr").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"there are no images of MIRFLICKR-25K\.(.|\n)*mirflickr25k\.zip"):
        load("flickr25k", flickr_original.folder, tmp_path / "tfds")
