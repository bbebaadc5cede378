"""Splits into queries, database and training set: drawn by a seed, or as the user's lists say."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast

import numpy as np

from saat_tf.data.labeled_images import LabeledImages
from saat_tf.data.list_format import SPLITS, ImageList, ImageLists, find_list, read_split
from saat_tf.data.split_rules import Rows, query_faults, raise_errors
from saat_tf.text_lists import DataError, listed_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """The sizes of a data set's split.

    Args:
        num_images: images in the whole data set.
        num_queries: queries, of each class where `per_class`.
        num_train: training images out of the database, of each class where `per_class`.
        per_class: draw for each class, or at random.
    """

    num_images: int
    num_queries: int
    num_train: int
    per_class: bool = False


def make_split(
    images: LabeledImages,
    protocol: Protocol,
    *,
    split: Literal["seeded", "official"],
    seed: int = 0,
    lists: Path | None = None,
    database: Literal["listed", "joined", "rest"] = "listed",
) -> ImageLists:
    """Divide a data set by `seeded_split` or `official_split`.

    Raises:
        DataError: the split cannot be made, or lists are named for a seeded one or missing for an official one.
    """
    if split == "seeded":
        if lists is not None:
            raise DataError("a seeded split reads no lists. Choose the official split, or drop the lists.")
        return seeded_split(images, protocol, seed=seed)
    if split == "official":
        if lists is None:
            raise DataError("an official split needs the lists: name their folder, or choose the seeded split.")
        return official_split(images, lists, database=database)
    raise ValueError(f"expected split 'seeded' or 'official'. Received: {split!r}.")


def seeded_split(images: LabeledImages, protocol: Protocol, *, seed: int = 0) -> ImageLists:
    """Draw queries and training images by a seed; every other image, and the training images too, are the database.

    The ids and the seed alone decide, so every machine draws the same: image i of the sorted ids gets the i-th number
    of NumPy's PCG64(seed) as it comes from the generator, a stream that NumPy promises never to change, and the images
    are taken by ascending number. Images without a label are never drawn as queries or for training, since nothing is
    relevant to them; they stay in the database. At random, the first images drawn are the queries and the next ones
    the training set. Per class, the classes draw one after the other, the rarest first, each from its images that no
    class has taken: first all queries, then the training images. Each split keeps the drawn order, so that
    neither the first images of a split nor the order of equal distances has to do with their names.

    Args:
        images: the data set.
        protocol: the sizes.
        seed: at least 0.

    Returns:
        Disjoint queries (`test`) and database, and the training set inside the database.

    Raises:
        DataError: there are too few labeled images.

    Example:
        >>> names = [f"{i}.jpg" for i in range(6)]
        >>> images = LabeledImages.ordered(names, [*map(Path, names)], np.ones((6, 1), np.uint8), ["cat"])
        >>> lists = seeded_split(images, Protocol(num_images=6, num_queries=2, num_train=3))
        >>> [path.name for path in lists.test.paths], len(lists.database.paths), len(lists.train.paths)
        (['3.jpg', '2.jpg'], 4, 3)
    """
    order = _drawn_order(len(images), seed)
    free = [i for i in order if images.labels[i].any()]
    queries = _draw(images, free, protocol, protocol.num_queries, "queries")
    train = _draw(images, [i for i in free if i not in queries], protocol, protocol.num_train, "training images")
    return _image_lists(
        images,
        train=[i for i in order if i in train],
        database=[i for i in order if i not in queries],
        test=[i for i in order if i in queries],
    )


def official_split(
    images: LabeledImages, lists: Path, *, database: Literal["listed", "joined", "rest"] = "listed"
) -> ImageLists:
    """Take the queries, database and training set that published lists name.

    Images are found by their file names. The labels are those of the data set in its own column order; those of the
    lists must be the same but for the order of the columns, which no score depends on.

    Args:
        images: the data set.
        lists: a folder with <split>_img.txt and <split>_label.txt, plain or gzipped; or the beginning of their names,
            such as `lists/FLICKR-25K_`.
        database: `listed` takes the database list as it is. `joined` is the usual step for HashNet's COCO lists, whose
            database contains the queries and lacks the training images: (database + train) - test. `rest` takes every
            image that is no query, for lists that come without a database.

    Returns:
        The three splits in the order of the lists; images in `images.skipped` are left out. A training list that names
        an image twice, as FLICKR-25K's does, stays so.

    Raises:
        DataError: a list is missing or malformed, names an unknown image, or has other labels; or a query stands in the
            training set, or in the database as listed.
    """
    if database not in ("listed", "joined", "rest"):
        raise ValueError(f"expected database 'listed', 'joined' or 'rest'. Received: {database!r}.")
    places: dict[str, list[int]] = {}
    for i, name in enumerate(images.ids):
        places.setdefault(_base(name), []).append(i)
    is_listed = database == "listed"
    read = [name for name in SPLITS if name != "database" or database != "rest"]
    listed = {name: _listed(images, places, lists, name) for name in read}
    raise_errors(query_faults({name: split for name, split in listed.items() if name != "database" or is_listed}))
    rows = {name: list(split.keys) for name, split in listed.items()}
    queries = set(rows["test"])
    if database == "rest":
        rows["database"] = [i for i in _drawn_order(len(images), 0) if i not in queries]
    elif database == "joined":
        rows["database"] = [i for i in dict.fromkeys(rows["database"] + rows["train"]) if i not in queries]
    return _image_lists(images, **rows)


def split_digest(lists: ImageLists) -> str:
    """Return a SHA-256 of which image files stand in which split in which order: equal digests are equal splits."""
    digest = hashlib.sha256()
    for split in (lists.train, lists.database, lists.test):
        digest.update(f"{split.name}\n".encode())
        digest.update("".join(f"{path.name}\n" for path in split.paths).encode())
    return digest.hexdigest()


def _drawn_order(count: int, seed: int) -> list[int]:
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable").tolist()


def _draw(images: LabeledImages, free: list[int], protocol: Protocol, number: int, what: str) -> set[int]:
    """Take images in the order of `free`: `number` of them, or `number` of each class."""
    if not protocol.per_class:
        if len(free) < number:
            raise DataError(f"expected {number:,} {what}. Received: {len(free):,} images with a label to draw from.")
        return set(free[:number])
    taken: set[int] = set()
    for column in np.argsort(images.labels.sum(axis=0, dtype=np.int64), kind="stable"):
        chosen = [i for i in free if images.labels[i, column] and i not in taken][:number]
        if len(chosen) < number:
            raise DataError(
                f"expected {number:,} images of {images.class_names[column]} for the {what}, beside those of rarer "
                f"classes. Received: {len(chosen):,}."
            )
        taken.update(chosen)
    return taken


def _image_lists(images: LabeledImages, **rows: Iterable[int]) -> ImageLists:
    def image_list(name: str) -> ImageList:
        kept = list(rows[name])
        # Whoever reads or writes the lists has had `LabeledImages.on_disk` unpack the images.
        paths = cast("tuple[Path, ...]", tuple(images.files[i] for i in kept))
        return ImageList(name, paths, images.labels[kept].astype(np.float32), tuple(range(1, len(kept) + 1)))

    return ImageLists(*(image_list(name) for name in SPLITS))


def _file(lists: Path, split: str, kind: str) -> Path:
    name = f"{split}_{kind}.txt"
    file = lists / name if lists.is_dir() else lists.with_name(f"{lists.name}{name}")
    return find_list(file) or file


def _base(name: str) -> str:
    return listed_path(name).rpartition("/")[2]


def _listed(images: LabeledImages, places: dict[str, list[int]], lists: Path, split: str) -> Rows:
    """Return the images that one list names, in its order, each known by its row in `images`.

    `places` has the rows of each file name.
    """
    file = _file(lists, split, "img")
    names, listed_labels = read_split(file, _file(lists, split, "label"))
    skipped = {_base(name) for name in images.skipped}
    rows, lines = [], []
    for line, name in enumerate(names):
        found = places.get(_base(name), [])
        if len(found) > 1:
            found = [i for i in found if listed_path(name).endswith(images.ids[i])] or found
        if len(found) == 1:
            rows.append(found[0])
            lines.append(line)
        elif _base(name) not in skipped:
            count = len(found) or "no"
            raise DataError(f"{file}:{line + 1}: the data have {count} images named {name}. They are of another set.")
    _check_labels(_file(lists, split, "label"), listed_labels[lines], images.labels[rows], lines)
    return Rows(str(file), [names[line] for line in lines], rows, [line + 1 for line in lines])


def _check_labels(file: Path, listed: np.ndarray, ours: np.ndarray, lines: list[int]) -> None:
    if listed.shape[1] != ours.shape[1]:
        raise DataError(f"{file}: the rows have {listed.shape[1]} columns, the data have {ours.shape[1]} classes.")
    for line, theirs, own in zip(lines, listed.sum(axis=1), ours.sum(axis=1, dtype=np.int64), strict=True):
        if theirs != own:
            raise DataError(
                f"{file}:{line + 1}: the image has {int(theirs)} labels in the list and {own} in the data. "
                "The lists are of another version of the data set, or of another data set."
            )
    if _columns(listed) != _columns(ours):
        raise DataError(f"{file}: no order of the columns makes these labels those of the data. Check both.")


def _columns(labels: np.ndarray) -> list[bytes]:
    return sorted(column.tobytes() for column in labels.astype(np.uint8).T)
