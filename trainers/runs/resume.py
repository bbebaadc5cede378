"""Start or resumption of a run, and the checks that its options and data are those of before."""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from saat_tf.files import write_whole
from saat_tf.strict_json import read_object
from trainers.console.output import say, warn
from trainers.recipes.identity import changed_options, options
from trainers.recipes.run_options import RunOptions
from trainers.run_folder.state import RunFolder


def enter(recipe: RunOptions, name: str) -> Path | None:
    """Return the folder of the run, where it may begin or resume there; None where it is finished.

    Raises:
        ValueError: it resumes with other options, or the run to resume is not named.
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
            raise ValueError("--resume resumes the run in --run-dir. Received: no --run-dir.")
        return recipe.run_dir
    run_dir = recipe.run_dir or Path("runs") / f"{recipe.folder_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    if run_dir.exists():
        raise FileExistsError(
            f"{run_dir} exists, and a run is never overwritten. Choose another --run-dir, or resume it by --resume."
        )
    return run_dir


def check_options(recipe: RunOptions, run_dir: Path) -> None:
    """Check that a resumed run has the options that it began with, and keep those where they may change.

    Raises:
        ValueError: options have changed, which is not allowed; the message lists them.
        OSError: the folder is not that of a run.
    """
    file = run_dir / "config.json"
    if not file.is_file():
        if run_dir.is_dir() and any(path.name[0] != "." for path in run_dir.iterdir()):
            raise FileNotFoundError(f"{file}: no such file. --resume needs a run; {run_dir} contains something else.")
        return
    begun_with = read_object(file, {}, remedy="Restore it, or begin a new run.")
    changed = list(changed_options(begun_with, options(recipe)))
    if changed and not recipe.allow_changes:
        raise ValueError(
            f"{run_dir} began with other options:\n  " + "\n  ".join(changed) + "\nResume with those of before, or add "
            "--allow-changes."
        )
    if changed:
        before = next(path for i in itertools.count(1) if not (path := run_dir / f"config-{i}.json").exists())
        write_whole(before, lambda temporary: temporary.write_bytes(file.read_bytes()))
        warn(f"Options have changed: {'; '.join(changed)}. Those of before are in {before}.")


def check_phase(phases: Sequence[str], run_folder: RunFolder) -> None:
    """Check that the recipe has the phase that the run is in.

    Raises:
        ValueError: it has another defense.
    """
    position = run_folder.position
    if position is not None and position.phase not in phases:
        raise ValueError(
            f"{run_folder.run_dir} is in adversarial training by --defense {position.phase}. Received: "
            f"{phases[-1]}. Begin a new run for that."
        )
