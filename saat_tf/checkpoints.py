"""Checkpoints that are there whole or not at all, that know when they are damaged, and of which a few are kept."""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saat_tf.files import atomic, json_text
from saat_tf.strict_json import read_object

KEPT = 2
ARRAYS, FACTS, MANIFEST = "arrays.npz", "facts.json", "manifest.json"
# What does not count as a checkpoint: one that is being written or removed.
HIDDEN = "."
BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Args:
        folder: where it lies.
        facts: what was stored beside the arrays, as JSON knows it.
        arrays: in the order in which they were given.
    """

    folder: Path
    facts: dict
    arrays: list[np.ndarray]


def save_checkpoint(root: Path, number: int, arrays: Sequence[np.ndarray], facts: Mapping) -> Path:
    """Write a checkpoint into `root`, then remove all but the newest `KEPT`.

    It is written beside its place, forced to the disk and moved in one step, so a process that dies, a machine that
    stops or a disk that is full leaves the checkpoints of before as they are.

    Args:
        root: folder of the checkpoints, made where it is needed.
        number: which one it is; a later one has a higher number, at most 10 digits.
        arrays: what to store.
        facts: what else to store, as JSON.

    Returns:
        Its folder, `root`/<number>.

    Raises:
        OSError: it cannot be written, most often because the disk is full. Nothing of it remains.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     folder = save_checkpoint(Path(root), 7, [np.arange(3)], {"epoch": 1})
        ...     found, damaged = newest_checkpoint(Path(root))
        >>> folder.name, found.facts, found.arrays, damaged
        ('0000000007', {'epoch': 1}, [array([0, 1, 2])], [])
    """
    root.mkdir(parents=True, exist_ok=True)
    remove_incomplete(root)
    folder = root / f"{number:010d}"
    with atomic(folder) as temporary:
        temporary.mkdir()
        np.savez(temporary / ARRAYS, **dict[str, Any]((f"{i:06d}", array) for i, array in enumerate(arrays)))
        _write(temporary / FACTS, dict(facts))
        _write(temporary / MANIFEST, {name: _digest(temporary / name) for name in (ARRAYS, FACTS)})
        if folder.exists():
            _remove(folder)
    for old in _folders(root)[:-KEPT]:
        _remove(old)
    return folder


def remove_incomplete(root: Path) -> None:
    """Remove what a process that died left half written or half removed in `root`."""
    for left in root.glob(f"{HIDDEN}*"):
        shutil.rmtree(left, ignore_errors=True)


def newest_checkpoint(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest whole checkpoint in `root`, if any, and what is wrong with each newer one."""
    damaged: list[str] = []
    for folder in reversed(_folders(root)):
        try:
            return read_checkpoint(folder), damaged
        except ValueError as error:
            damaged.append(str(error))
    return None, damaged


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ValueError: a file is missing, truncated or changed; the message names it.
    """
    for name in (MANIFEST, ARRAYS, FACTS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: is missing.")
    manifest = read_object(folder / MANIFEST, {ARRAYS: str, FACTS: str}, remedy="It is damaged.")
    for name in (ARRAYS, FACTS):
        if _digest(folder / name) != manifest[name]:
            raise ValueError(f"{folder / name}: is not what was written: cut short, or changed.")
    facts = read_object(folder / FACTS, {}, remedy="It is damaged.")
    with np.load(folder / ARRAYS, allow_pickle=False) as stored:
        return Checkpoint(folder, facts, [stored[name] for name in sorted(stored.files)])


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("[0-9]*") if path.is_dir()) if root.is_dir() else []


def _remove(folder: Path) -> None:
    """Remove a folder such that no half of it is ever taken for whole."""
    hidden = folder.with_name(f"{HIDDEN}removing-{folder.name}")
    shutil.rmtree(hidden, ignore_errors=True)
    os.rename(folder, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _write(file: Path, facts: dict) -> None:
    file.write_text(json_text(file, facts), encoding="utf-8")


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
