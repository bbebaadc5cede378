"""Queries, database and training set of a folder of class folders."""

from pathlib import Path

import numpy as np

from saat_tf.data.class_folders import ClassifiedImages, draw_held_out, read_class_folders
from saat_tf.data.list_format import ImageList, ImageLists
from saat_tf.text_lists import DataError


def class_folder_lists(folder: Path, query_share: float, *, seed: int) -> tuple[ImageLists, tuple[str, ...]]:
    """List the images of a folder of class folders by split; a label row has the class of its image.

    Where the folder divides its images, into train/ and val/ (or validation, valid, test), the queries are its held-out
    images. Otherwise `query_share` of each class's images are drawn to be queries, at least one and not all. The other
    images are the database, and all of them the training set. Each list has an order that `seed` draws, so that its
    beginning has images of all classes.

    Args:
        folder: see `saat_tf.data.class_folders.read_class_folders`.
        query_share: in (0, 1).
        seed: of the draw. It depends on the number of images and on the order of their names.

    Returns:
        The lists, and the names of the classes.

    Raises:
        DataError: it is no such folder, or has images inside of tar files.
    """
    images, queries = read_class_folders(folder)
    if queries is None:
        images, queries = draw_held_out(images, query_share, seed=seed)
    packed = next((file for file in (*images.files, *queries.files) if file.name), None)
    if packed is not None:
        raise DataError(f"{packed.path}: images inside an archive cannot be trained on here. Unpack it.")
    train, database = (_listed(name, images, seed) for name in ("train", "database"))
    return ImageLists(train, database, _listed("test", queries, seed)), images.class_names


def _listed(name: str, images: ClassifiedImages, seed: int) -> ImageList:
    order = np.argsort(np.random.PCG64(seed).random_raw(len(images)), kind="stable")
    paths = tuple(images.files[i].path for i in order)
    return ImageList(name, paths, images.label_rows()[order], tuple(range(1, len(paths) + 1)))
