"""Small data sets in the layouts of the originals, each with what a reader must find by hand's count, and a browser."""

import io
import json
import shutil
import types
import zipfile

import numpy as np
import pytest
from PIL import Image

from saat_tf.data.tfds import coco, flickr25k
from tests.small_graphs import flat_backbone, tiny_encoders

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def tiny_small_cnn():
    """One convolution in place of small_cnn, for modules whose tests are the same on any network."""
    with tiny_encoders("small_cnn", build=flat_backbone):
        yield


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not shutil.which(CHROMIUM):
        pytest.skip(f"there is no {CHROMIUM}")
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


def jpeg(seed):
    """A small JPEG file that differs from seed to seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


COCO_IDS = [i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}]
# Split, image, [(category, is it a crowd)]: person is 1, dog 18, horse 19, banana 52, toothbrush 90.
COCO_IMAGES = [
    ("train2014", 9, [(18, 0), (18, 0), (1, 0)]),
    ("train2014", 25, [(1, 1)]),  # nothing but a crowd
    ("train2014", 30, []),  # nothing at all
    ("train2014", 34, [(90, 0), (52, 1)]),
    ("val2014", 42, [(19, 0)]),
    ("val2014", 73, []),
    ("val2014", 74, [(1, 0), (1, 1)]),
]
COCO_LABELS = {
    "COCO_train2014_000000000009.jpg": {"person", "dog"},
    "COCO_train2014_000000000025.jpg": {"person"},
    "COCO_train2014_000000000034.jpg": {"banana", "toothbrush"},
    "COCO_val2014_000000000042.jpg": {"horse"},
    "COCO_val2014_000000000074.jpg": {"person"},
}


def coco_contents(split):
    """The annotations of one split, in an order that nobody sorted."""
    images, boxes = [], []
    for name, image_id, categories in reversed(COCO_IMAGES):
        if name != split:
            continue
        images.append({"id": image_id, "file_name": f"COCO_{split}_{image_id:012}.jpg", "width": 10, "height": 8})
        for category, crowd in categories:
            outline = {"counts": [3, 4], "size": [8, 10]} if crowd else [[1.5, 2.25, 3.0, 4.0, 5.0, 6.0]]
            box = {"id": len(boxes), "bbox": [1, 2, 3, 4], "area": 12.0, "iscrowd": crowd, "segmentation": outline}
            boxes.append({**box, "image_id": image_id, "category_id": category})
    categories = [{"id": i, "name": n, "supercategory": "x"} for i, n in zip(COCO_IDS, coco.CLASS_NAMES, strict=True)]
    return {"info": {}, "licenses": [], "images": images, "annotations": boxes, "categories": categories[::-1]}


@pytest.fixture
def coco_original(tmp_path):
    """A plain COCO folder with crowd boxes and with images without objects."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split in ("train2014", "val2014"):
        contents = coco_contents(split)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(contents))
        (folder / split).mkdir()
        for image in contents["images"]:
            (folder / split / image["file_name"]).write_bytes(jpeg(image["id"]))
    return types.SimpleNamespace(folder=folder, labels=COCO_LABELS, images=COCO_IMAGES, ids=COCO_IDS)


# Annotation file -> image numbers; the other files are empty. Image 11 has no label.
FLICKR_NUMBERS = {
    "animals": [1, 3, 12],
    "dog": [1, 3],
    "dog_r1": [3],
    "water": [2, 12],
    "tree_r1": [7],
    "sky": [2, 4, 5, 6, 8, 9, 10],
}


@pytest.fixture
def flickr_original(tmp_path, monkeypatch):
    """MIRFLICKR's two archives, with twelve images."""
    monkeypatch.setattr(flickr25k, "NUM_IMAGES", 12)
    folder = tmp_path / "flickr"
    folder.mkdir()
    with zipfile.ZipFile(folder / "mirflickr25k.zip", "w") as archive:
        archive.writestr("mirflickr/doc/readme.txt", "doc")
        for number in range(1, 13):
            archive.writestr(f"mirflickr/im{number}.jpg", jpeg(number))
    with zipfile.ZipFile(folder / "mirflickr25k_annotations_v080.zip", "w") as archive:
        archive.writestr("README.txt", "About")
        for name in flickr25k.CLASS_NAMES:
            archive.writestr(f"{name}.txt", "".join(f"{number}\r\n" for number in FLICKR_NUMBERS.get(name, [])))

    def unpack():
        """Unpack the archives as their users do, and remove them."""
        for name, place in (("mirflickr25k", ""), ("mirflickr25k_annotations_v080", "mirflickr25k_annotations_v080")):
            with zipfile.ZipFile(folder / f"{name}.zip") as archive:
                archive.extractall(folder / place)
            (folder / f"{name}.zip").unlink()

    labels = {f"im{i}.jpg": {name for name, numbers in FLICKR_NUMBERS.items() if i in numbers} for i in range(1, 13)}
    return types.SimpleNamespace(folder=folder, labels=labels, unpack=unpack)


@pytest.fixture
def nus_original(tmp_path):
    """NUS-WIDE with 30 images in its lists, 25 of which have one of the 21 commonest of its 81 concepts.

    Concept c00 is that of images 0 to 24, c01 of images 0 to 23 and so on; c21, the 22nd, and the others are too rare.
    """
    folder = tmp_path / "nus"
    (folder / "Groundtruth/AllLabels").mkdir(parents=True)
    (folder / "ImageList").mkdir()
    names = [f"{'actor' if i % 2 else 'zoo'}/{i:04}_{7000 + i}.jpg" for i in range(30)]
    (folder / "ImageList/Imagelist.txt").write_text("".join(name.replace("/", "\\") + "\r\n" for name in names))
    # Written in an order that is not that of the counts.
    counts = {**{f"rare{i:02}": 0 for i in range(59)}, **{f"c{i:02}": 25 - i for i in range(22)}}
    for concept, count in counts.items():
        rows = [i < count or (concept, i) == ("rare00", 29) for i in range(30)]
        (folder / f"Groundtruth/AllLabels/Labels_{concept}.txt").write_text("".join(f"{row:d}\n" for row in rows))
    for i, name in enumerate(names):
        (folder / "Flickr" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "Flickr" / name).write_bytes(jpeg(i))
    labels = {names[i]: {f"c{c:02}" for c in range(21) if i < 25 - c} for i in range(25)}
    return types.SimpleNamespace(folder=folder, labels=labels)


@pytest.fixture
def labels_of():
    """Return id -> names of its labels, of data as a reader returns them."""

    def read(images):
        assert images.labels.dtype == np.uint8 and images.labels.shape == (len(images), len(images.class_names))
        assert set(np.unique(images.labels)) <= {0, 1} and len(images.ids) == len(images.files)
        assert list(images.ids) == sorted(images.ids)
        rows = zip(images.ids, images.labels, strict=True)
        return {name: {images.class_names[c] for c in np.flatnonzero(row)} for name, row in rows}

    return read
