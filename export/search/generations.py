"""Generations of an index: small manifests that name the segments, of which the newest counts.

A manifest is written whole and never changed, and so are the files that it names. So a reader that has opened a
generation is disturbed by nothing, and a writer that dies leaves the last one as it was. The generation before is kept,
with its files, in case those of the newest are damaged.
"""

import json
import os
import re
import shutil
import zlib
from pathlib import Path

from export.search.items import IndexDamagedError
from saat_tf.durable import file_checksum, publish

FORMAT = 1
NAME = re.compile(r"generation-(\d{8})\.json")


def generations(folder: Path) -> list[int]:
    """Return the numbers of the generations that are there, oldest first."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Build an index first: python -m export.index build.")
    numbers = sorted(int(match[1]) for match in map(NAME.fullmatch, os.listdir(folder)) if match)
    if not numbers:
        raise FileNotFoundError(f"{folder}: this is no index; it has no generation-....json. Build one elsewhere.")
    return numbers


def manifest_path(folder: Path, number: int) -> Path:
    """Return the path of a generation's manifest."""
    return folder / f"generation-{number:08}.json"


def write_manifest(folder: Path, number: int, content: dict) -> None:
    """Make a generation: from now on it is the newest."""
    body = {"format": FORMAT, **content}
    whole = {**body, "checksum": _checksum(body)}
    text = json.dumps(whole, indent=1) + "\n"
    publish(manifest_path(folder, number), lambda path: path.write_text(text, encoding="utf-8"))


def read_manifest(folder: Path, number: int) -> dict:
    """Read the manifest of a generation.

    Raises:
        FileNotFoundError: it is gone.
        IndexDamagedError: it is not as it was written.
    """
    path = manifest_path(folder, number)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum = content.pop("checksum")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise IndexDamagedError(f"{path} cannot be read ({error}).{remedy(folder, number)}") from error
    if checksum != _checksum(content):
        raise IndexDamagedError(f"{path} has been changed since it was written.{remedy(folder, number)}")
    if content["format"] != FORMAT:
        raise ValueError(f"{path} has format {content['format']}, this program reads {FORMAT}. Use a newer version.")
    return content


def _checksum(content: dict) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def check_file(folder: Path, number: int, name: str, expected: list[int]) -> None:
    """Raise `IndexDamagedError` unless a file of a generation is as it was written."""
    path = folder / name
    try:
        found = file_checksum(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise IndexDamagedError(f"{path} cannot be read ({error}).{remedy(folder, number)}") from error
    if found[0] != expected[0]:
        raise IndexDamagedError(f"{path} has {found[0]} bytes, not {expected[0]}.{remedy(folder, number)}")
    if found != expected:
        raise IndexDamagedError(f"{path} has been changed since it was written.{remedy(folder, number)}")


def remedy(folder: Path, number: int) -> str:
    """Say how to go back to the generation before, if there is one."""
    older = [other for other in generations(folder) if other < number]
    if not older:
        return " Restore it from a copy, or build the index again."
    return (
        f" Generation {older[-1]} is kept: --generation {older[-1]} reads it, and removing "
        f"{manifest_path(folder, number)} makes it the newest again."
    )


def clean(folder: Path) -> None:
    """Remove what neither the newest generation nor the one before it needs; for the one writer."""
    kept = generations(folder)[-2:]
    names = {"lock", *(manifest_path(folder, number).name for number in kept)}
    try:
        for number in kept:
            names |= {name.split("/")[0] for name in read_manifest(folder, number)["files"]}
    except IndexDamagedError:
        return  # which files it needs is not known
    for entry in os.scandir(folder):
        ours = NAME.fullmatch(entry.name) or entry.name.startswith(("segment-", "removed-", ".writing-"))
        if not ours or entry.name in names:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
