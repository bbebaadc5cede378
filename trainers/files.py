"""Data sets in the list format, read and checked for a recipe."""

from pathlib import Path

from saat_tf.data import DataError, ImageLists, RetrievalData, check_images, file_split, read_image_lists
from trainers.console import track
from trainers.recipe import FileRecipe

# Images are resized to image_size / crop_fraction before the cut, and the memory for that is bounded.
MIN_CROP_FRACTION = 0.25


def load_files(recipe: FileRecipe, name: str, how_to_get: str) -> RetrievalData:
    """Read and check the recipe's data folder.

    Args:
        recipe: names the folder and how images are cut.
        name: name of the data set.
        how_to_get: what to tell a user who has no data yet.

    Raises:
        DataError: there is no data folder, or something in it is wrong.
    """
    if recipe.data_dir is None:
        raise DataError(f"{name} needs images.\n{how_to_get}")
    if not recipe.data_dir.is_dir():
        raise DataError(f"--data-dir {recipe.data_dir} is no folder.\n{how_to_get}")
    if not MIN_CROP_FRACTION <= recipe.crop_fraction <= 1:
        raise DataError(f"--crop-fraction must be in [{MIN_CROP_FRACTION}, 1]. Received: {recipe.crop_fraction}.")
    lists = read_image_lists(recipe.data_dir, num_classes=recipe.num_labels)
    check_images(lists, track)
    train = lists.train.take(range(len(lists.train.paths))[: recipe.limit_train])
    resize_size = round(recipe.image_size / recipe.crop_fraction)
    return RetrievalData(
        name,
        _class_names(recipe.data_dir, lists),
        file_split(train, recipe.image_size, resize_size, cache=recipe.cache),
        file_split(lists.database, recipe.image_size, resize_size),
        file_split(lists.test, recipe.image_size, resize_size),
    )


def _class_names(data_dir: Path, lists: ImageLists) -> list[str]:
    """Read classes.txt, one name a column, where there is one; else number the columns."""
    num_classes = lists.train.labels.shape[1]
    file = data_dir / "classes.txt"
    if not file.is_file():
        return [f"label {column}" for column in range(num_classes)]
    try:
        names = file.read_text(encoding="utf-8-sig").splitlines()[:num_classes]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: not a UTF-8 text file ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    if len(names) < num_classes or not all(names):
        raise DataError(f"{file}: expected {num_classes} class names, one a line, as the label rows have columns.")
    return names
