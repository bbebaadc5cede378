"""MS-COCO 2014: training and validation images with the categories of their boxes (Lin et al., ECCV 2014)."""

from pathlib import Path

import numpy as np

from saat_tf.data.labeled_images import LabeledImages
from saat_tf.data.splits import Protocol
from saat_tf.strict_json import read_json
from saat_tf.text_lists import DataError

SPLITS = ("train2014", "val2014")
# By ascending COCO category id, 1 to 90 with ten ids unused.
CLASS_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
PROTOCOL = Protocol(num_images=122_218, num_queries=5_000, num_train=10_000)

HOW_TO_GET = """\
Fetch from https://cocodataset.org/#download into one folder, and unpack there:
  train2014.zip (13 GB) and val2014.zip (6 GB)   the images: train2014/, val2014/
  annotations_trainval2014.zip (0.25 GB)         annotations/instances_train2014.json, instances_val2014.json"""


def read_coco(data_dir: Path, *, skip_missing: bool = False) -> LabeledImages:
    """Read a plain COCO folder: train2014/, val2014/ and annotations/instances_*2014.json.

    The columns are the 80 categories by ascending COCO category id. An image has a label when it has at least one box
    of that category, crowd boxes included: a crowd of people shows people. The lists that HashNet published agree with
    this rule: their images per category are as many as COCO's own `getImgIds` finds, which counts crowd boxes (person:
    66,808, the 64,115 training and 2,693 validation images of 2017). Images without a box are dropped: 122,218 of
    123,287 remain.

    Args:
        data_dir: the user's folder.
        skip_missing: leave out images whose files are missing.

    Returns:
        The images, with ids such as `COCO_val2014_000000000042.jpg`.

    Raises:
        DataError: files are missing, or annotations are malformed.
    """
    ids, files, rows = [], [], []
    for split in SPLITS:
        annotations, folder = data_dir / "annotations" / f"instances_{split}.json", data_dir / split
        if not annotations.is_file() or not folder.is_dir():
            missing = folder if annotations.is_file() else annotations
            raise DataError(f"{missing}: no such {'folder' if missing is folder else 'file'}.\n{HOW_TO_GET}")
        for name, labels in _labels(annotations).items():
            ids.append(name)
            files.append(folder / name)
            rows.append(labels)
    if not ids:
        raise DataError(f"{data_dir / 'annotations'}: no image has a box. Fetch the annotations again.")
    return LabeledImages.ordered(ids, files, np.stack(rows), CLASS_NAMES).present(skip_missing=skip_missing)


def _labels(file: Path) -> dict[str, np.ndarray]:
    """Read one file of annotations: file name -> uint8 (80,), for the images that have a box."""
    # Outlines are nearly all of the file and would take gigabytes; each is dropped as soon as it is parsed.
    contents = read_json(file, without=("segmentation",), remedy="Fetch it again.")
    categories = _entries(file, contents, "categories", {"id": int, "name": str})
    images = _entries(file, contents, "images", {"id": int, "file_name": str})
    boxes = _entries(file, contents, "annotations", {"image_id": int, "category_id": int})
    columns = {number: column for column, number in enumerate(sorted(_once(file, categories, "categories", "id")))}
    found = tuple(name for _, name in sorted(categories))
    if found != CLASS_NAMES:
        raise DataError(
            f"{file}: expected COCO's 80 categories, from person to toothbrush by ascending id. "
            f"Received: {len(found)}, from {found[0] if found else 'none'} on. Use instances_*2014.json."
        )
    names = _once(file, images, "images", "id")
    _once(file, [(name, number) for number, name in images], "images", "file_name")
    labels: dict[str, np.ndarray] = {}
    for image_id, category_id in boxes:
        name = names.get(image_id)
        if name is None or category_id not in columns:
            raise DataError(f"{file}: a box names image {image_id} and category {category_id}, which it does not list.")
        if not name or Path(name).name != name:
            raise DataError(f"{file}: expected the name of a file in one folder. Received: {name!r}.")
        labels.setdefault(name, np.zeros(len(CLASS_NAMES), np.uint8))[columns[category_id]] = 1
    return labels


def _entries(file: Path, contents: object, part: str, fields: dict[str, type]) -> list[tuple]:
    """Return the fields of each entry in one part of the annotations."""
    entries = contents.get(part) if isinstance(contents, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{file}: these are no COCO annotations of boxes: there is no list of {part}. Fetch it again.")
    found = []
    for number, entry in enumerate(entries, start=1):
        values = tuple(entry.get(field) for field in fields) if isinstance(entry, dict) else ()
        # bool is an int to Python, not to COCO.
        if list(map(type, values)) != list(fields.values()):
            wanted = " and ".join(f"{field} ({kind.__name__})" for field, kind in fields.items())
            raise DataError(
                f"{file}: these are no COCO annotations of boxes: expected {wanted} in entry {number} of {part}. "
                f"Received: {str(entry)[:80]}. Fetch it again."
            )
        found.append(values)
    return found


def _once(file: Path, entries: list[tuple], part: str, field: str) -> dict:
    """Return first value -> second of pairs whose first values are distinct."""
    first: dict = {}
    for number, (key, _) in enumerate(entries, start=1):
        if key in first:
            raise DataError(f"{file}: entries {first[key]} and {number} of {part} have one {field}, {key}.")
        first[key] = number
    return dict(entries)
