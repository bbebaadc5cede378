"""Data sets of image files, read, divided and checked for a recipe."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from saat_tf.data import (
    DataError,
    ImageLists,
    LabeledImages,
    Protocol,
    RetrievalData,
    UnreadableImage,
    cached_file_split,
    check_images,
    drop_images,
    file_split,
    keep_columns,
    make_split,
    read_class_names,
    read_image_lists,
)
from saat_tf.data.folder_lists import class_folder_lists
from trainers.console.output import track
from trainers.recipes.recipe import FileRecipe, FolderRecipe, SplitRecipe

# Images are resized to image_size / crop_fraction before the cut, and the memory for that is bounded.
MIN_CROP_FRACTION = 0.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileData(RetrievalData):
    """A data set of image files; `lists` says which, `skipped` what was left out, and a run keeps both."""

    lists: ImageLists
    skipped: Sequence[UnreadableImage]


def load_files(recipe: FileRecipe, name: str, how_to_get: str) -> FileData:
    """Read and check the recipe's data folder, which is in the list format.

    Args:
        recipe: names the folder and how images are cut.
        name: name of the data set.
        how_to_get: what to tell a user who has no data yet.

    Raises:
        DataError: there is no data folder, or something in it is wrong.
    """
    data_dir = _check_folder(recipe, name, how_to_get)
    lists = read_image_lists(data_dir, num_classes=recipe.num_labels)
    return _file_data(recipe, name, lists, read_class_names(data_dir, lists.train.labels.shape[1]))


def load_class_folders(recipe: FolderRecipe, name: str, how_to_get: str) -> FileData:
    """Read and check the recipe's data folder, which has class folders; see `class_folder_lists`.

    Args:
        recipe: names the folder, how it is divided and how images are cut.
        name: name of the data set.
        how_to_get: what to tell a user who has no data yet.

    Raises:
        DataError: there is no data folder, or something in it is wrong.
    """
    data_dir = _check_folder(recipe, name, how_to_get)
    lists, class_names = class_folder_lists(data_dir, recipe.query_share, seed=recipe.split_seed)
    if recipe.num_labels is not None:
        lists = keep_columns(lists, recipe.num_labels, data_dir)
    return _file_data(recipe, name, lists, class_names[: recipe.num_labels])


def load_data_set(
    recipe: SplitRecipe, name: str, how_to_get: str, read: Callable[[Path], LabeledImages], protocol: Protocol
) -> FileData:
    """Read and check the recipe's data folder: in the list format, or as fetched and divided as the recipe says.

    Args:
        recipe: names the folder, the split and how images are cut.
        name: name of the data set.
        how_to_get: what to tell a user who has no data yet.
        read: reads the data set as it was fetched.
        protocol: the sizes of its split.

    Raises:
        DataError: there is no data folder, or something in it is wrong.
    """
    if recipe.split == "official" and recipe.lists is None:
        return load_files(recipe, name, how_to_get)
    data_dir = _check_folder(recipe, name, how_to_get)
    images = read(data_dir)
    if not all(isinstance(file, Path) for file in images.files):
        raise DataError(f"{data_dir}: images inside an archive cannot be trained on. Unpack it.\n{how_to_get}")
    lists = make_split(
        images, protocol, split=recipe.split, seed=recipe.split_seed, lists=recipe.lists, database=recipe.database
    )
    if recipe.num_labels is not None:
        lists = keep_columns(lists, recipe.num_labels, data_dir)
    return _file_data(recipe, name, lists, images.class_names[: recipe.num_labels])


def _check_folder(recipe: FileRecipe, name: str, how_to_get: str) -> Path:
    if recipe.data_dir is None:
        raise DataError(f"{name} needs images.\n{how_to_get}")
    if not recipe.data_dir.is_dir():
        raise DataError(f"--data-dir {recipe.data_dir} is no folder.\n{how_to_get}")
    if not MIN_CROP_FRACTION <= recipe.crop_fraction <= 1:
        raise DataError(f"--crop-fraction must be in [{MIN_CROP_FRACTION}, 1]. Received: {recipe.crop_fraction}.")
    if recipe.cache_dir is not None and (recipe.random_crop or recipe.cache):
        raise DataError("--cache-dir keeps images cut in the middle: it excludes --random-crop, and --cache too.")
    return recipe.data_dir


def _file_data(recipe: FileRecipe, name: str, lists: ImageLists, class_names: Sequence[str]) -> FileData:
    skipped = check_images(lists, track, skip=recipe.skip_unreadable)
    lists = drop_images(lists, skipped)
    train = lists.train.take(range(len(lists.train.paths))[: recipe.limit_train])
    resize_size = round(recipe.image_size / recipe.crop_fraction)
    turned = {"apply_orientation": not recipe.ignore_orientation}
    if recipe.cache_dir is None:
        train_split = file_split(train, recipe.image_size, resize_size, cache=recipe.cache, **turned)
    else:
        train_split = cached_file_split(train, recipe.image_size, resize_size, recipe.cache_dir, track=track, **turned)
    return FileData(
        name,
        class_names,
        train_split,
        file_split(lists.database, recipe.image_size, resize_size, **turned),
        file_split(lists.test, recipe.image_size, resize_size, **turned),
        lists=dataclasses.replace(lists, train=train),
        skipped=skipped,
    )
