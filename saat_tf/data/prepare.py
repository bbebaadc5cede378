"""Write a data set in the list format: `python -m saat_tf.data.prepare coco --data-dir DIR --out DIR`.

This file is a program: it reads the command line and prints, which the rest of the library leaves to its callers.
"""

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import rich.progress
import tyro

from saat_tf.command_line import ExitCode
from saat_tf.data.decoding.check import check_images
from saat_tf.data.labeled_images import LabeledImages
from saat_tf.data.list_format import SPLITS, ImageLists, write_image_lists
from saat_tf.data.splits import Protocol, make_split, split_digest
from saat_tf.data.tfds import coco, flickr25k, nus_wide
from saat_tf.data.tfds.coco_tfds import read_coco_tfds
from saat_tf.files import write_json, write_text
from saat_tf.progress import Track, silent
from saat_tf.text_lists import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepare:
    """Options that every data set has."""

    protocol: ClassVar[Protocol]
    how_to_get: ClassVar[str]

    data_dir: Path | None = None
    """Folder with the data set as it was fetched."""
    out: Path
    """Folder to make; it must not exist. Its lists name the images where they are, by paths relative to the folder;
    images inside an archive are written to images/ in it."""
    split: Literal["seeded", "official"] = "seeded"
    """seeded: drawn by the protocol of the data set, the same on every machine; official: as --lists say."""
    seed: int = 0
    """Seed of the seeded split."""
    lists: Path | None = None
    """Folder of the official lists, plain or .gz; or the beginning of their names, such as lists/FLICKR-25K_."""
    database: Literal["listed", "joined", "rest"] = "listed"
    """Official database: as listed; joined, (database + train) - test, for HashNet's COCO lists; or the rest, every
    image that is no query, for lists without a database."""
    skip_missing: bool = False
    """Leave out images whose files are missing, and name them in skipped.txt."""

    def read(self, images_dir: Path, track: Track) -> LabeledImages:
        """Read the data set; what is no file yet may be written to `images_dir`."""
        if self.data_dir is None or not self.data_dir.is_dir():
            given = "" if self.data_dir is None else f" {self.data_dir} is no folder."
            raise DataError(f"--data-dir must name the folder of the data set.{given}\n{self.how_to_get}")
        return self.read_folder(self.data_dir)

    def read_folder(self, data_dir: Path) -> LabeledImages:
        """Read the data set from the user's folder; each data set says how."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareCoco(Prepare):
    """MS-COCO 2014, from train2014/, val2014/ and annotations/, or through TensorFlow Datasets."""

    protocol = coco.PROTOCOL
    how_to_get = f"{coco.HOW_TO_GET}\nOr leave --data-dir out and pass --download."

    download: bool = False
    """Have TensorFlow Datasets fetch it; the size and a rough time are said before it starts."""
    tfds_dir: Path | None = None
    """Data folder of TensorFlow Datasets that has coco/2014, or is to have it. Default: its own."""

    def read(self, images_dir: Path, track: Track) -> LabeledImages:
        """Read the user's folder or, where --download or --tfds-dir is given, TensorFlow Datasets."""
        if not self.download and self.tfds_dir is None:
            return super().read(images_dir, track)
        if self.data_dir is not None:
            raise DataError("--download and --tfds-dir stand in place of --data-dir. Give one or the other.")
        return read_coco_tfds(images_dir, tfds_dir=self.tfds_dir, download=self.download, announce=print, track=track)

    def read_folder(self, data_dir: Path) -> LabeledImages:
        """Read a plain COCO folder."""
        return coco.read_coco(data_dir, skip_missing=self.skip_missing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareFlickr25k(Prepare):
    """FLICKR-25K, from MIRFLICKR's archives or the folders that they unpack to."""

    protocol = flickr25k.PROTOCOL
    how_to_get = flickr25k.HOW_TO_GET

    columns: Literal[38, 24] = 38
    """Label columns: all, or the 24 potential ones alone."""

    def read_folder(self, data_dir: Path) -> LabeledImages:
        """Read the archives or folders."""
        return flickr25k.read_flickr25k(data_dir, columns=self.columns, skip_missing=self.skip_missing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareNusWide(Prepare):
    """NUS-WIDE with its 21 commonest concepts, from its lists and the user's images."""

    protocol = nus_wide.PROTOCOL
    how_to_get = nus_wide.HOW_TO_GET

    def read_folder(self, data_dir: Path) -> LabeledImages:
        """Read the lists and images."""
        return nus_wide.read_nus_wide(data_dir, skip_missing=self.skip_missing)


Command = (
    Annotated[PrepareCoco, tyro.conf.subcommand("coco")]
    | Annotated[PrepareFlickr25k, tyro.conf.subcommand("flickr25k")]
    | Annotated[PrepareNusWide, tyro.conf.subcommand("nus_wide")]
)


def prepare(options: Prepare, track: Track = silent) -> tuple[LabeledImages, ImageLists]:
    """Read, divide and check a data set, and write it to `options.out`: whole, or not at all.

    The folder gets the lists, classes.txt, split.json with all that makes the split, and skipped.txt where images were
    left out. Every image is decoded once.

    Raises:
        DataError: the data or the options are refused.
        FileExistsError: there is such a folder.
    """
    with _whole_folder(options.out) as folder:
        images = options.read(folder / "images", track).on_disk(folder / "images", track)
        lists = make_split(
            images,
            options.protocol,
            split=options.split,
            seed=options.seed,
            lists=options.lists,
            database=options.database,
        )
        check_images(lists, track)
        write_image_lists(lists, images.class_names, folder)
        if images.skipped:
            text = "".join(f"{name}\n" for name in images.skipped)
            write_text(folder / "skipped.txt", text)
        write_json(folder / "split.json", _facts(options, images, lists))
    return images, lists


def _facts(options: Prepare, images: LabeledImages, lists: ImageLists) -> dict:
    drawn = {"seed": options.seed} if options.split == "seeded" else {"database": options.database}
    return {
        "split": options.split,
        **drawn,
        "lists": options.lists and str(options.lists),
        "images": len(images),
        "images_of_the_protocol": options.protocol.num_images,
        "skipped": len(images.skipped),
        "sizes": {name: len(getattr(lists, name).paths) for name in SPLITS},
        "sha256": split_digest(lists),
    }


@contextlib.contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill; it becomes `out` when all went well, and is removed when not."""
    if out.exists():
        raise FileExistsError(f"{out} exists, and is not overwritten. Choose another --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".preparing-{out.name}")  # beside `out`: relative paths from it are those from `out`
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _track(items: Iterable, total: int, description: str) -> Iterable:
    return rich.progress.track(items, description, total) if total else items


def main(options: Prepare) -> int:
    """Prepare a data set and print a summary; return the exit code, 2 where options or data are refused."""
    with ExitCode() as outcome:
        images, lists = prepare(options, _track)
    if outcome.code:
        return outcome.code
    sizes = ", ".join(f"{len(getattr(lists, name).paths):,} {name}" for name in ("test", "database", "train"))
    print(f"{options.out}: {len(images):,} images (the paper's {options.protocol.num_images:,}), {sizes}.")
    if images.skipped:
        print(f"{len(images.skipped):,} images were skipped, see skipped.txt: this split is not that of all images.")
    print(f"Split {split_digest(lists)[:16]}: equal digits mean an equal split.")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Command)))
