"""MS-COCO from its folder and through TensorFlow Datasets, against labels that were worked out by hand."""

import json
import socket
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from saat_tf.data import DataError, read_coco
from saat_tf.data.tfds import coco, coco_tfds
from saat_tf.data.tfds.coco_tfds import check_server, read_coco_tfds

SHARED = Path(__file__).parents[5] / "shared" / "data"


def annotations(original, split="train2014"):
    return original.folder / "annotations" / f"instances_{split}.json"


def fault(original, **options):
    with pytest.raises(DataError) as caught:
        read_coco(original.folder, **options)
    return str(caught.value)


def test_labels_are_those_of_all_boxes_and_images_without_a_box_are_dropped(coco_original, labels_of):
    images = read_coco(coco_original.folder)
    assert labels_of(images) == coco_original.labels
    assert images.skipped == ()
    for name, file in zip(images.ids, images.files, strict=True):
        assert file == coco_original.folder / name.split("_")[1] / name and file.is_file()


def test_the_columns_are_the_categories_by_ascending_id():
    names = coco.CLASS_NAMES
    assert len(set(names)) == 80
    # Ids that the annotation files are known to give: 1, 18, 19, 52 and 90, with ten of 1 to 90 unused.
    assert [names.index(name) for name in ("person", "dog", "horse", "banana", "toothbrush")] == [0, 16, 17, 46, 79]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs shared/data/coco_mini")
def test_the_categories_are_those_of_the_published_lists():
    alphabetical = (SHARED / "coco_mini" / "classes.txt").read_text().splitlines()
    assert sorted(coco.CLASS_NAMES) == alphabetical


@pytest.mark.parametrize("missing", ["annotations/instances_val2014.json", "train2014"])
def test_what_is_not_there_is_named_with_what_to_fetch(coco_original, missing):
    (coco_original.folder / missing).rename(coco_original.folder / "elsewhere")
    message = fault(coco_original)
    assert message.startswith(f"{coco_original.folder / missing}: no such")
    assert "annotations_trainval2014.zip" in message


def test_missing_images_are_listed_or_skipped_when_asked(coco_original, labels_of):
    name = "COCO_val2014_000000000042.jpg"
    (coco_original.folder / "val2014" / name).unlink()
    (coco_original.folder / "val2014" / "COCO_val2014_000000000073.jpg").unlink()  # has no box: nobody misses it
    message = fault(coco_original)
    assert message.startswith("1 of 5 images are missing:") and str(coco_original.folder / "val2014" / name) in message
    assert "--skip-missing" in message
    images = read_coco(coco_original.folder, skip_missing=True)
    assert images.skipped == (name,)
    assert labels_of(images) == {key: value for key, value in coco_original.labels.items() if key != name}


def test_with_every_image_missing_there_is_nothing_to_skip_to(coco_original):
    for file in coco_original.folder.glob("*2014/*.jpg"):
        file.unlink()
    assert "no image is left" in fault(coco_original, skip_missing=True)


def changed(key, value):
    return lambda contents: contents[key][-1].update(value)


BAD = {
    "another category": (changed("categories", {"name": "human"}), "80 categories"),
    "a category less": (lambda contents: contents["categories"].pop(), "Received: 79"),
    "a box of no image": (changed("annotations", {"image_id": 5}), "image 5"),
    "a box of no category": (changed("annotations", {"category_id": 12}), "category 12"),
    "no categories": (lambda contents: contents.pop("categories"), "no COCO annotations"),
    "images without names": (lambda contents: contents["images"][0].pop("file_name"), "no COCO annotations"),
    "a list of names": (lambda contents: contents.update(images=["a.jpg"]), "no COCO annotations"),
    "two images of one id": (
        lambda contents: contents["images"][-1].update(id=contents["images"][0]["id"]),
        "entries 1 and 4 of images have one id, 34.",
    ),
    "two images of one name": (
        lambda contents: contents["images"][-1].update(file_name=contents["images"][0]["file_name"]),
        "entries 1 and 4 of images have one file_name, COCO_train2014_000000000034.jpg.",
    ),
    "two categories of one id": (changed("categories", {"id": 90}), "entries 1 and 80 of categories have one id, 90."),
    "an id that is a list": (changed("images", {"id": [1, 2]}), "expected id (int) and file_name (str) in entry 4 of"),
    "an id that is a truth": (changed("images", {"id": True}), "expected id (int) and file_name (str) in entry 4 of"),
    "a box whose image is a list": (changed("annotations", {"image_id": [[1]]}), "expected image_id (int) and"),
    "a path for a name": (changed("images", {"file_name": "../../secret.jpg"}), "'../../secret.jpg'"),
}


@pytest.mark.parametrize("change, part", BAD.values(), ids=BAD)
def test_annotations_that_are_wrong_are_named(coco_original, change, part):
    contents = json.loads(annotations(coco_original).read_text())
    change(contents)
    annotations(coco_original).write_text(json.dumps(contents))
    message = fault(coco_original)
    assert message.startswith(f"{annotations(coco_original)}:") and part in message


def test_a_truncated_file_of_annotations_is_named_with_its_line(coco_original):
    contents = json.dumps(json.loads(annotations(coco_original).read_text()), indent=1)
    cut = contents[: len(contents) // 2]
    annotations(coco_original).write_text(cut)
    message = fault(coco_original)
    line = int(message.removeprefix(f"{annotations(coco_original)}:").split(":")[0])
    assert cut.count("\n") <= line <= cut.count("\n") + 1 and "Fetch it again" in message


TEXTS = {
    "deep lists": ("[" * 100_000 + "]" * 100_000, "it is nested in more than 100 levels"),
    "deep objects": ('{"images":' * 100_000, "it is nested in more than 100 levels"),
    "deep beside the parts": ('{"images": [], "info": ' + "[" * 150 + "]" * 150 + "}", "it is nested in more than 100"),
    "no object": ("5", "there is no list of categories"),
    "NaN": ('{"images": [{"id": NaN}]}', "it contains NaN"),
}


@pytest.mark.parametrize("text, part", TEXTS.values(), ids=TEXTS)
def test_text_that_is_no_annotations_is_named(coco_original, text, part):
    annotations(coco_original).write_text(text)
    message = fault(coco_original)
    assert message.startswith(f"{annotations(coco_original)}:") and part in message and "Fetch it again" in message


def test_annotations_without_any_box_are_an_error(coco_original):
    for split in ("train2014", "val2014"):
        contents = json.loads(annotations(coco_original, split).read_text())
        annotations(coco_original, split).write_text(json.dumps({**contents, "annotations": []}))
    assert "no image has a box" in fault(coco_original)


@pytest.fixture
def mocked_coco(coco_original):
    """Let `coco/2014` of TensorFlow Datasets give the images of the small folder."""

    def as_dataset(builder, split, **_):
        def rows():
            for name, number, boxes in coco_original.images:
                if name != {"train": "train2014", "validation": "val2014"}[split]:
                    continue
                file_name = f"COCO_{name}_{number:012}.jpg"
                yield {
                    "image": (coco_original.folder / name / file_name).read_bytes(),
                    "image/filename": file_name,
                    "image/id": number,
                    "objects": {"label": np.array([coco_original.ids.index(c) for c, _ in boxes], np.int64)},
                }

        signature = {
            "image": tf.TensorSpec((), tf.string),
            "image/filename": tf.TensorSpec((), tf.string),
            "image/id": tf.TensorSpec((), tf.int64),
            "objects": {"label": tf.TensorSpec((None,), tf.int64)},
        }
        count = sum(name.startswith(split[:3]) for name, _, _ in coco_original.images)
        examples = tf.data.Dataset.from_generator(rows, output_signature=signature)
        return examples.apply(tf.data.experimental.assert_cardinality(count))

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield coco_original


def test_tensorflow_datasets_gives_what_the_folder_gives(mocked_coco, monkeypatch, tmp_path):
    monkeypatch.setattr(coco_tfds, "check_server", lambda url: None)
    said = []
    images = read_coco_tfds(tmp_path / "images", download=True, announce=said.append)
    expected = read_coco(mocked_coco.folder)
    assert (images.ids, images.class_names) == (expected.ids, expected.class_names)
    np.testing.assert_array_equal(images.labels, expected.labels)
    for file, original in zip(images.files, expected.files, strict=True):
        assert file.parent == tmp_path / "images" and file.read_bytes() == original.read_bytes()
    assert len(said) == 1 and "20.4 GB" in said[0] and "27 minutes at 100 Mbit/s" in said[0]


def test_nothing_is_fetched_unasked(mocked_coco, monkeypatch, tmp_path):
    monkeypatch.setattr(coco_tfds, "check_server", lambda url: pytest.fail("went to the network"))
    with pytest.raises(DataError, match=r"--download to fetch it, 20\.4 GB"):
        read_coco_tfds(tmp_path / "images", announce=lambda text: pytest.fail(text))
    assert not (tmp_path / "images").exists()


def test_only_the_two_splits_in_use_would_be_fetched(tmp_path):
    builder = coco_tfds._builder(tmp_path)
    assert [split.name for split in builder.builder_config.splits] == ["train", "validation"]
    urls = {f"http://images.cocodataset.org/{kind}/{name}.zip" for kind, name in (
        ("zips", "train2014"), ("zips", "val2014"), ("annotations", "annotations_trainval2014"))}  # fmt: skip
    assert sum(info.size for url, info in builder.url_infos.items() if url in urls) == coco_tfds.DOWNLOAD_BYTES


NO_NETWORK = {
    "no such name": (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    "refused": (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
    "time out": (TimeoutError("timed out"), "timed out"),
}


@pytest.mark.parametrize("error, part", NO_NETWORK.values(), ids=NO_NETWORK)
def test_a_missing_network_is_said_before_tensorflow_datasets_is_asked(monkeypatch, tmp_path, error, part):
    def no_network(*_, **__):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(DataError, match=part) as caught:
        read_coco_tfds(tmp_path / "images", tfds_dir=tmp_path, download=True, announce=lambda text: pytest.fail(text))
    assert "cannot reach http://images.cocodataset.org/" in str(caught.value) and "train2014.zip" in str(caught.value)


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch):
    over, waits = threading.Event(), []

    def never(request, timeout):
        waits.append(timeout)
        over.wait()
        raise TimeoutError

    monkeypatch.setattr(coco_tfds, "SECONDS_TO_ANSWER", 0.01)
    monkeypatch.setattr(urllib.request, "urlopen", never)
    with pytest.raises(DataError, match="no answer"):
        check_server("http://images.invalid/")
    over.set()
    assert waits == [0.01]
