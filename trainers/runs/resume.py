"""Where a run begins or goes on, and what must be the same when it goes on: its options and its data."""

import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from saat_tf.data import RetrievalData
from saat_tf.evaluation import versions
from saat_tf.files import write_whole
from trainers.console.output import say, warn
from trainers.recipes.file_data import FileData
from trainers.recipes.run_options import RunOptions
from trainers.run_folder.state import RunFolder

# Options that may differ between a run and its continuation: they say how it is run and change nothing of what comes
# out.
RUN_OPTIONS = ("run_dir", "resume", "allow_changes", "worker_timeout", "checkpoint_every", "profile", "export_only")


def enter(recipe: RunOptions, name: str) -> Path | None:
    """Return the folder of the run, where it may begin or go on there; None where it is finished.

    Raises:
        ValueError: it goes on with other options, or nobody says which goes on.
        OSError: the folder is something else's.
    """
    run_dir = new_run_dir(recipe, name)
    if recipe.resume:
        if (run_dir / "card.json").is_file():
            say(f"This run is finished: {run_dir}")
            return None
        check_options(recipe, run_dir)
    return run_dir


def new_run_dir(recipe: RunOptions, name: str) -> Path:
    """Return where the run goes.

    Raises:
        FileExistsError: it exists already and is not to be resumed; a run is never overwritten.
        ValueError: a run is to be resumed, and it is not said which.
    """
    if recipe.resume:
        if recipe.run_dir is None:
            raise ValueError("--resume goes on with the run in --run-dir. Received: no --run-dir.")
        return recipe.run_dir
    run_dir = recipe.run_dir or Path("runs") / f"{recipe.folder_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    if run_dir.exists():
        raise FileExistsError(
            f"{run_dir} exists, and a run is never overwritten. Choose another --run-dir, or go on with it by --resume."
        )
    return run_dir


def lock(run_dir: Path) -> None:
    """Keep the run folder to this process as long as it lives: two would undo each other's work.

    Raises:
        BlockingIOError: another process works on it.
    """
    descriptor = os.open(run_dir, os.O_RDONLY)  # stays open, and with it the lock, until the process ends
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BlockingIOError(f"{run_dir}: another process works on this run. Wait for it, or end it.") from error


def options(recipe: RunOptions) -> dict:
    """Return the options of a run as JSON knows them."""
    return json.loads(json.dumps(dataclasses.asdict(recipe), default=str))


def check_options(recipe: RunOptions, run_dir: Path) -> None:
    """Check that a run that goes on has the options that it began with, and keep those where they may change.

    Raises:
        ValueError: options have changed, which is not allowed; the message lists them.
        OSError: the folder is not that of a run.
    """
    file = run_dir / "config.json"
    if not file.is_file():
        if run_dir.is_dir() and any(path.name[0] != "." for path in run_dir.iterdir()):
            raise FileNotFoundError(
                f"{file}: no such file. --resume goes on with a run; {run_dir} holds something else."
            )
        return
    changed = list(changed_options(json.loads(file.read_text(encoding="utf-8")), options(recipe)))
    if changed and not recipe.allow_changes:
        raise ValueError(
            f"{run_dir} began with other options:\n  " + "\n  ".join(changed) + "\nGo on with those of before, or add "
            "--allow-changes."
        )
    if changed:
        before = next(path for i in itertools.count(1) if not (path := run_dir / f"config-{i}.json").exists())
        write_whole(before, lambda temporary: temporary.write_bytes(file.read_bytes()))
        warn(f"Options have changed: {'; '.join(changed)}. Those of before are in {before}.")


def check_phase(phases: Sequence[str], run_folder: RunFolder) -> None:
    """Check that the recipe has the phase that the run is in.

    Raises:
        ValueError: it has another defence.
    """
    position = run_folder.position
    if position is not None and position.phase not in phases:
        raise ValueError(
            f"{run_folder.run_dir} is in adversarial training by --defense {position.phase}. Received: "
            f"{phases[-1]}. Begin a new run for that."
        )


def identity(data: RetrievalData) -> dict[str, str]:
    """Return what tells that a checkpoint belongs to this data and this software."""
    digest = hashlib.sha256()
    for split in (data.train, data.database, data.test):
        digest.update(f"{split.labels.shape}".encode())
        digest.update(np.ascontiguousarray(split.labels).tobytes())
    if isinstance(data, FileData):
        for images in (data.lists.train, data.lists.database, data.lists.test):
            digest.update("\n".join(path.name for path in images.paths).encode())
    return {"data": digest.hexdigest(), **versions()}


def changed_options(before: Mapping, now: Mapping) -> Iterator[str]:
    """Name the options that a run began with and that are others now, with both values."""
    for name in sorted({*before, *now} - {*RUN_OPTIONS}):
        if before.get(name) != now.get(name):
            yield f"--{name.replace('_', '-')}: {before.get(name)} -> {now.get(name)}"
