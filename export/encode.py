"""Encode a folder of images: `python -m export.encode --images FOLDER --model SAVEDMODEL --out OUT`."""

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import rich.progress
import tyro

from export.bulk.encoded_folder import (
    EncodedShard,
    Encoding,
    missing_shards,
    read_encoding,
    write_encoding,
    write_shard,
    write_skipped,
)
from export.bulk.images import Images, digest, list_images
from export.bulk.ray_shards import encode_by_ray
from export.bulk.shards import ShardTask, encode_here
from saat_tf.command_line import USAGE_ERROR, ExitCode
from saat_tf.files import lock_folder

SKIPPED = 1
SHOWN = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Encode many images into packed codes, in shards that `python -m export.index` reads.

    An interrupted run resumes when the same command is given again; when images or the model have
    changed meanwhile, it refuses. Images that cannot be read, or have an unsupported format, are left out and listed
    in OUT/skipped.txt. On processors of one type the shards are the same bytes, whatever the number of workers.

    Exit code: 0 when all images are encoded, or --skip-unreadable; 1 when some were skipped; 2 when an option or a file
    is wrong, or none could be encoded.
    """

    images: Path
    """A folder of images, or a text file with one path a line, relative to its folder."""
    root: Path | None = None
    """For a text file: the folder that contains all images; ids are relative to it. Default: the folder of the file."""
    model: Path
    """A SavedModel of export.saved_model, or the folder of its versions, whose newest is used."""
    out: Path
    """Folder to write, or to resume."""
    workers: int | None = None
    """Number of processes, by default one a core; with --ray, actors of one core each."""
    ray: str | None = None
    """Encode with Ray Data: the address of a cluster, auto for the cluster of this machine, or local to start one here.
    All machines need images and model under the same paths."""
    shard_size: int = 1024
    """Images of a shard."""
    batch_size: int = 64
    """Images of a batch."""
    skip_unreadable: bool = False
    """Exit with 0 even if images were skipped."""


def main(options: EncodeOptions) -> int:
    """Encode as `options` say; return the exit code."""
    with ExitCode(RuntimeError) as outcome:
        check_options(options)
        images = list_images(options.images, options.root)
        options.out.mkdir(parents=True, exist_ok=True)
        with lock_folder(options.out):
            encoding, model = begin(options, images)
            missing = missing_shards(options.out, encoding)
            size = encoding.shard_size
            if missing:
                encoded = _encoded(options, images, model, missing)
                for shard in rich.progress.track(encoded, "Encoding shards", total=len(missing)):
                    ids = images.ids[shard.number * size : (shard.number + 1) * size]
                    write_shard(options.out, shard, ids)
            skipped = write_skipped(options.out, encoding, images.passed_over)
    if outcome.code:
        return outcome.code
    num_encoded = encoding.num_images - (len(skipped) - len(images.passed_over))
    print(f"{options.out}: {num_encoded} images encoded, {len(skipped)} skipped (skipped.txt).")
    for line in skipped[:SHOWN]:
        print(f"skipped: {line}", file=sys.stderr)
    if len(skipped) > SHOWN:
        print(f"and {len(skipped) - SHOWN} more, see {options.out / 'skipped.txt'}", file=sys.stderr)
    if not num_encoded:
        print(f"error: none of the {len(skipped)} images could be encoded.", file=sys.stderr)
        return USAGE_ERROR
    return SKIPPED if skipped and not options.skip_unreadable else 0


def check_options(options: EncodeOptions) -> None:
    """Raise `ValueError` when an option is out of its range."""
    if min(options.shard_size, options.batch_size, options.workers or 1) < 1:
        raise ValueError(
            "--shard-size, --batch-size and --workers must be at least 1. Received: "
            f"{options.shard_size}, {options.batch_size} and {options.workers}."
        )
    if options.root is not None and options.images.is_dir():
        raise ValueError(f"--root is for a list of images. Received: the folder {options.images}. Leave it out.")


def begin(options: EncodeOptions, images: Images) -> tuple[Encoding, Path]:
    """Write encoding.json, or check that the existing one is of the same images and model.

    Returns:
        the encoding, and the folder of the model.

    Raises:
        ValueError: images, model or sizes differ.
    """
    from export.encoder.exported_encoder import load_encoder, model_digest
    from export.encoder.fingerprint import fingerprint
    from saat_tf.devices import hide_gpus

    hide_gpus()  # bulk encoding runs on the CPU, in many processes
    encoder = load_encoder(options.model)
    size = options.shard_size
    encoding = Encoding(
        root=str(images.root),
        model=model_digest(encoder.folder),
        probe_codes=fingerprint(encoder.encode_bytes),
        code_length=encoder.code_length,
        num_images=len(images.ids),
        shard_size=size,
        batch_size=options.batch_size,
        shards=[digest(images, start, start + size) for start in range(0, len(images.ids), size)],
    )
    if not (options.out / "encoding.json").is_file():
        write_encoding(options.out, encoding)
    check_unchanged(options.out, read_encoding(options.out), encoding)
    return encoding, encoder.folder.absolute()


def check_unchanged(folder: Path, begun: Encoding, now: Encoding) -> None:
    """Raise `ValueError` unless the encoding in a folder can be resumed."""
    changed = [
        f"--{name.replace('_', '-')} was {getattr(begun, name)}, is {getattr(now, name)}"
        for name in ("shard_size", "batch_size")
        if getattr(begun, name) != getattr(now, name)
    ]
    if begun.model != now.model:
        changed.append("the model is another one")
    if begun.root != now.root or begun.num_images != now.num_images:
        changed.append(f"there were {begun.num_images} images in {begun.root}, now {now.num_images} in {now.root}")
    elif not changed and begun.shards != now.shards:
        shard = next(i for i, pair in enumerate(zip(begun.shards, now.shards, strict=True)) if pair[0] != pair[1])
        last = min((shard + 1) * now.shard_size, now.num_images)
        changed.append(f"images {shard * now.shard_size + 1} to {last}, or some of them, were changed")
    if changed:
        raise ValueError(
            f"{folder} began with other inputs: {'; '.join(changed)}. Codes of both would be mixed: choose another "
            "--out, or restore the inputs."
        )


def _encoded(options: EncodeOptions, images: Images, model: Path, numbers: list[int]) -> Iterator[EncodedShard]:
    size = options.shard_size
    tasks = (ShardTask(number, images.paths(number * size, (number + 1) * size)) for number in numbers)
    workers = min(options.workers or os.cpu_count() or 1, len(numbers))
    if options.ray is None:
        return encode_here(tasks, model, options.batch_size, workers)
    return encode_by_ray(tasks, model, options.batch_size, workers, options.ray)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(EncodeOptions)))
