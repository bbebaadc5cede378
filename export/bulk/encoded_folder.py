"""The folder that bulk encoding writes and an index is built from.

    encoding.json                what was encoded, by which model, in shards of how many images
    shard-000000/codes.npy       uint8 (n, K / 8), the packed codes of the images that could be read
    shard-000000/ids.jsonl       their ids, a JSON string a line, in the same order
    shard-000000/skipped.jsonl   the others: [id, what is wrong with it] a line
    skipped.txt                  those of all shards, written after the last shard

A shard has its final name only when it is complete.
"""

import dataclasses
import json
import os
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.search.items import Block
from saat_tf.files import write_text, write_whole
from saat_tf.strict_json import read_json_lines, read_object

FORMAT = 1
UNREAD = "images of this format are not read"


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Images and model of an encoding.

    Args:
        root: what the ids are relative to.
        model: hash of the model's graph and weights.
        probe_codes: the model's codes of drawn images, its fingerprint.
        code_length: K.
        num_images: number of image files, readable or not.
        shard_size: images of a shard, but for the last.
        batch_size: images of a batch; rounding depends on it.
        shards: a hash of the files of each shard.
    """

    root: str
    model: str
    probe_codes: str
    code_length: int
    num_images: int
    shard_size: int
    batch_size: int
    shards: list[str]


FIELDS: dict[str, Any] = {x.name: typing.get_origin(x.type) or x.type for x in dataclasses.fields(Encoding)}


@dataclasses.dataclass(frozen=True)
class EncodedShard:
    """The images of one shard, encoded.

    Args:
        number: of the shard.
        codes: uint8 (n, K / 8), of the images that could be read, in order.
        faults: place in the shard and what is wrong, of the others.
    """

    number: int
    codes: np.ndarray
    faults: list[tuple[int, str]]


def shard_folder(folder: Path, number: int) -> Path:
    """Return the folder of a shard."""
    return folder / f"shard-{number:06}"


def write_encoding(folder: Path, encoding: Encoding) -> None:
    """Write encoding.json."""
    text = json.dumps({"format": FORMAT, **dataclasses.asdict(encoding)}, indent=1) + "\n"
    write_text(folder / "encoding.json", text)


def read_encoding(folder: Path) -> Encoding:
    """Read encoding.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of another version of this program.
    """
    file = Path(folder) / "encoding.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file. Encode images first: python -m export.encode.")
    try:
        content = read_object(file, {"format": int, **FIELDS})
        if content.pop("format") != FORMAT:
            raise ValueError("it is of another version of this program")
        return Encoding(**content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} cannot be read ({error}). Encode the images again into another folder.") from error


def write_shard(folder: Path, shard: EncodedShard, ids: Sequence[str]) -> None:
    """Write a shard; `ids` are those of all its images."""
    faults = dict(shard.faults)

    def write(path: Path) -> None:
        path.mkdir()
        np.save(path / "codes.npy", shard.codes, allow_pickle=False)
        read = (json.dumps(item_id) for place, item_id in enumerate(ids) if place not in faults)
        (path / "ids.jsonl").write_text("".join(f"{line}\n" for line in read), encoding="ascii")
        skipped = (json.dumps([ids[place], fault]) for place, fault in shard.faults)
        (path / "skipped.jsonl").write_text("".join(f"{line}\n" for line in skipped), encoding="ascii")

    write_whole(shard_folder(folder, shard.number), write)


def write_skipped(folder: Path, encoding: Encoding, passed_over: Sequence[str]) -> list[str]:
    """Write skipped.txt: the unreadable images of all shards, and those of unsupported formats; return its lines."""
    lines = []
    for number in range(len(encoding.shards)):
        for _, (item_id, fault) in read_json_lines(shard_folder(folder, number) / "skipped.jsonl"):
            lines.append(f"{json.dumps(item_id)}: {fault}")
    lines += [f"{json.dumps(file)}: {UNREAD}" for file in passed_over]
    write_text(folder / "skipped.txt", "".join(f"{line}\n" for line in lines))
    return lines


def missing_shards(folder: Path, encoding: Encoding) -> list[int]:
    """Return the numbers of the missing shards."""
    return [number for number in range(len(encoding.shards)) if not shard_folder(folder, number).is_dir()]


def read_blocks(folder: Path, encoding: Encoding) -> Iterator[Block]:
    """Yield the items of each shard, with the path of the image as metadata.

    Raises:
        ValueError: a shard is missing or damaged, or no image is encoded.
    """
    missing = missing_shards(folder, encoding)
    if missing:
        raise ValueError(
            f"{folder}: {len(missing)} of {len(encoding.shards)} shards are missing. Resume with the same "
            "python -m export.encode."
        )
    shards = [shard_folder(folder, number) for number in range(len(encoding.shards))]
    if all(map(_is_empty, shards)):
        raise ValueError(
            f"{folder}: none of its {encoding.num_images} images could be encoded, see skipped.txt. Encode others."
        )
    for shard in shards:
        yield _read_block(shard, encoding)


def _is_empty(shard: Path) -> bool:
    ids = shard / "ids.jsonl"
    return ids.is_file() and not ids.stat().st_size


def _read_block(shard: Path, encoding: Encoding) -> Block:
    try:
        codes = np.load(shard / "codes.npy", allow_pickle=False)
        ids = [item_id for _, item_id in read_json_lines(shard / "ids.jsonl")]
        block = Block(codes, ids, [{"path": os.path.join(encoding.root, item_id)} for item_id in ids])
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise ValueError(
            f"{shard} cannot be read ({error}). Remove it and run python -m export.encode again."
        ) from error
    return block
