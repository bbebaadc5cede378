"""Images of classes, read, divided and checked for a pre-training."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saat_tf.data import DataError, Split, record_split
from saat_tf.data.class_folders import ClassifiedImages, draw_held_out, read_class_folders, readable
from saat_tf.data.class_split import ClassSplit, class_split
from saat_tf.evaluation import versions
from trainers.console.output import track
from trainers.recipes.file_data import MIN_CROP_FRACTION
from trainers.recipes.pretrain_recipe import PretrainRecipe


@dataclasses.dataclass(frozen=True)
class ClassData:
    """Images of classes to train on, and others to judge by.

    Args:
        name: of the data set.
        class_names: of the C classes.
        train: training images.
        held_out: images that no training sees.
        digest: SHA-256 of names and classes, hexadecimal.
        skipped: what was left out, and why.
    """

    name: str
    class_names: Sequence[str]
    train: ClassSplit
    held_out: ClassSplit
    digest: str
    skipped: Sequence[str] = ()

    def identity(self) -> dict[str, str | None]:
        """Return what tells that a checkpoint belongs to this data and this software."""
        return {"data": self.digest, **versions()}


def load_class_data(recipe: PretrainRecipe) -> ClassData:
    """Read and check the recipe's data folder.

    Raises:
        DataError: there is no data folder, or something in it is wrong.
    """
    folder = recipe.data_dir
    if folder is None or not folder.is_dir():
        raise DataError(f"--data-dir must be a folder of class folders. Received: {folder}.")
    if not MIN_CROP_FRACTION <= recipe.crop_fraction <= 1:
        raise DataError(f"--crop-fraction must be in [{MIN_CROP_FRACTION}, 1]. Received: {recipe.crop_fraction}.")
    sizes = (recipe.image_size, round(recipe.image_size / recipe.crop_fraction))
    if any(folder.glob("train-*.tfrecord")):
        return _load_records(recipe, folder, sizes)
    turned = {"apply_orientation": not recipe.ignore_orientation}
    train, held_out = read_class_folders(folder)
    if held_out is None:
        train, held_out = draw_held_out(train, recipe.held_out_share, seed=recipe.seed)
    train = _limited(train, recipe.limit_train)
    train, skipped = readable(train, track, skip=recipe.skip_unreadable)
    held_out, also_skipped = readable(held_out, track, skip=recipe.skip_unreadable)
    return ClassData(
        folder.resolve().name,
        train.class_names,
        class_split(train, *sizes, cache=recipe.cache, **turned),
        class_split(held_out, *sizes, **turned),
        _digest(train, held_out),
        [*skipped, *also_skipped],
    )


def _limited(images: ClassifiedImages, count: int | None) -> ClassifiedImages:
    """Return the first images of each class, as evenly as can be, `count` in all."""
    if count is None or count >= len(images):
        return images
    ranks = np.concatenate([np.arange(size) for size in np.bincount(images.classes)])
    return images.take(np.sort(np.argsort(ranks, kind="stable")[:count]))


def _digest(*splits: ClassifiedImages) -> str:
    digest = hashlib.sha256()
    for images in splits:
        digest.update("\n".join(images.class_names).encode() + b"\n\n")
        digest.update("".join(f"{file.name or file.path.name}\n" for file in images.files).encode())
        digest.update(images.classes.tobytes())
    return digest.hexdigest()


def _load_records(recipe: PretrainRecipe, folder: Path, sizes: tuple[int, int]) -> ClassData:
    options = {"cache": recipe.cache, "apply_orientation": not recipe.ignore_orientation}
    train, held_out = (
        _single_class(record_split(folder, name, *sizes, **options), folder, name) for name in ("train", "test")
    )
    widths = [split.labels.shape[1] for split in (train, held_out)]
    if widths[0] != widths[1]:
        raise DataError(f"{folder}: train has {widths[0]} classes, test has {widths[1]}. Use records of one set.")
    count = widths[0]
    train, held_out = map(ClassSplit.of_rows, (train, held_out))
    lonely = np.flatnonzero(np.bincount(train.labels, minlength=count) < 2)
    if lonely.size or count < 2:
        raise DataError(
            f"{folder}: each of at least two classes needs two training images. Received: {lonely.tolist()}."
        )
    digest = hashlib.sha256(train.labels.tobytes() + held_out.labels.tobytes()).hexdigest()
    names = [f"class {number}" for number in range(count)]
    return ClassData(folder.resolve().name, names, train, held_out, digest)


def _single_class(split: Split, folder: Path, name: str) -> Split:
    several = np.flatnonzero(split.labels.sum(axis=1) != 1)
    if several.size:
        raise DataError(
            f"{folder}: record {several[0]} of {name} has {int(split.labels[several[0]].sum())} labels. "
            "Pre-training needs one class an image."
        )
    return split
