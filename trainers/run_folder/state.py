"""State of a run, from which it resumes after an interruption: checkpoints, evaluations, logs and seconds."""

import dataclasses
import json
import shutil
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saat_tf.checkpoints import FACTS, Checkpoint, newest_checkpoint, remove_incomplete, save_checkpoint
from saat_tf.evaluation import RetrievalReport
from saat_tf.files import TEMPORARY, atomic
from saat_tf.strict_json import parse_json, wrong_fields
from saat_tf.text_lists import DataError
from saat_tf.training.checkpointing import Position, SavedTraining
from trainers.console.output import say, warn

# What a checkpoint of a run says beside its arrays.
FACT_FIELDS = {"position": dict, "identity": dict, "seconds": dict, "logs": dict}
POSITION_FIELDS = {"phase": str, "epoch": int, "step": int, "steps": int}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPosition(Position):
    """Position in a run: in the training of a phase.

    Args:
        phase: which phase of the run, by its name.
    """

    phase: str

    def facts(self) -> dict:
        """Return it as a checkpoint has it, where a training that was not stopped has no word of that."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "stopped" or value}


class RunFolder:
    """The memory of a run, in its folder.

    Args:
        run_dir: the folder.
        identity: what tells that a checkpoint belongs to this data and this software: stored with each.

    Raises:
        ValueError: the newest checkpoint is one of other data, or none of a run.
    """

    def __init__(self, run_dir: Path, identity: Mapping[str, str | None]) -> None:
        self.run_dir = run_dir
        self.identity = dict(identity)
        self.seconds: dict[str, float] = {}
        remove_incomplete(self.checkpoints)
        for left in run_dir.rglob(f"{TEMPORARY}*"):
            shutil.rmtree(left)
        self.checkpoint, damaged = newest_checkpoint(self.checkpoints)
        for fault in damaged:
            instead = self.checkpoint.folder if self.checkpoint else "the beginning"
            warn(f"{fault} The run resumes from {instead}.")
        if self.checkpoint is not None:
            _check_facts(self.checkpoint)
            self._check_identity(self.checkpoint)
            self.seconds = dict(self.checkpoint.facts["seconds"])
        self.number = int(self.checkpoint.folder.name) if self.checkpoint else 0
        self._cut_logs()

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.run_dir / "checkpoints"

    @property
    def position(self) -> RunPosition | None:
        """Position from which the run resumes; None where that is the beginning."""
        return RunPosition(**self.checkpoint.facts["position"]) if self.checkpoint else None

    def announce(self) -> None:
        """Say from where the run resumes, if it does."""
        if self.checkpoint and (at := self.position):
            say(f"Resuming from {self.checkpoint.folder}: {at.phase}, {at.epoch} epochs and {at.step} steps done.")

    def save(self, position: RunPosition, arrays: list[np.ndarray]) -> None:
        """Write a checkpoint; the logs must have been flushed.

        Raises:
            OSError: it cannot be written.
        """
        self.number += 1
        facts = {
            "position": position.facts(),
            "identity": self.identity,
            "seconds": self.seconds,
            "logs": {str(log.relative_to(self.run_dir)): log.stat().st_size for log in self._logs()},
        }
        save_checkpoint(self.checkpoints, self.number, arrays, facts)

    def timed(self, phase: str) -> "Clock":
        """Return a context that counts its seconds to a phase, also while it runs."""
        return Clock(self.seconds, phase)

    def save_report(self, phase: str, report: RetrievalReport) -> None:
        """Keep an evaluation, so that it need not be done again."""
        fields = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}

        self._report_file(phase).parent.mkdir(exist_ok=True)
        with atomic(self._report_file(phase)) as file, open(file, "wb") as stream:
            np.savez(stream, seconds=json.dumps(self.seconds), **fields)

    def load_report(self, phase: str) -> RetrievalReport | None:
        """Return a kept evaluation, or None where there is none that is whole."""
        file = self._report_file(phase)
        if not file.is_file():
            return None
        try:
            with np.load(file, allow_pickle=False) as stored:
                fields: dict[str, Any] = {name: stored[name] for name in stored.files}
            seconds = _checked_seconds(parse_json(str(fields.pop("seconds")), "seconds"))
            report = RetrievalReport(**dict[str, Any]((name, x if x.ndim else float(x)) for name, x in fields.items()))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            warn(f"{file}: not a whole evaluation ({error}). The model is evaluated again.")
            return None
        for name, spent in seconds.items():
            self.seconds[name] = max(spent, self.seconds.get(name, 0.0))
        return report

    def _report_file(self, phase: str) -> Path:
        return self.run_dir / "evaluations" / f"{phase}.npz"

    def _logs(self) -> list[Path]:
        return sorted(path for path in (self.run_dir / "logs").rglob("events.out.tfevents.*") if path.is_file())

    def _cut_logs(self) -> None:
        """Cut the logs back to what they were at the checkpoint: what came later is going to be logged again."""
        kept = self.checkpoint.facts["logs"] if self.checkpoint else {}
        for log in self._logs():
            size = kept.get(str(log.relative_to(self.run_dir)))
            if size is None:
                log.unlink()
            elif log.stat().st_size > size:
                with open(log, "r+b") as stream:
                    stream.truncate(size)

    def _check_identity(self, checkpoint: Checkpoint) -> None:
        before = checkpoint.facts["identity"]
        if before["data"] != self.identity["data"]:
            raise ValueError(
                f"{self.run_dir}: the data set is not the one that the run began with: its labels or its order are "
                "others. Restore it, or begin a new run."
            )
        changed = [name for name in self.identity if before.get(name) != self.identity[name]]
        if changed:
            found = ", ".join(f"{name} {before.get(name)} -> {self.identity[name]}" for name in changed)
            warn(f"{self.run_dir}: the software has changed ({found}); bits may differ from those of one run.")


def _check_facts(checkpoint: Checkpoint) -> None:
    """Raise `DataError` where a checkpoint does not say what a run needs to resume."""
    facts = checkpoint.facts
    wrong = wrong_fields(facts, FACT_FIELDS)
    wrong = wrong or [f"position.{name}" for name in wrong_fields(facts["position"], POSITION_FIELDS)]
    if not wrong and wrong_fields(facts["seconds"], dict.fromkeys(facts["seconds"], int | float)):
        wrong = ["seconds"]
    if (
        wrong
        or facts["position"].keys() - {"stopped"} != POSITION_FIELDS.keys()
        or wrong_fields(facts["identity"], {"data": str})
    ):
        raise DataError(
            f"{checkpoint.folder / FACTS}: {', '.join(wrong) or 'position or identity'} missing or of another type. "
            "Remove the folder, and the run resumes from the checkpoint before."
        )


def _checked_seconds(seconds: object) -> dict[str, float]:
    """Return the seconds of each phase, or raise `DataError` where they are none."""
    if not isinstance(seconds, dict) or wrong_fields(seconds, dict.fromkeys(seconds, int | float)):
        raise DataError("seconds: expected an object of numbers.")
    return seconds


class Clock:
    """Adds the seconds that pass inside of it to `seconds[phase]`; `tick` brings that up to date."""

    def __init__(self, seconds: dict[str, float], phase: str) -> None:
        self.seconds = seconds
        self.phase = phase

    def __enter__(self) -> "Clock":
        self.since = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.tick()

    def tick(self) -> None:
        """Add what has passed since the last time."""
        now = time.perf_counter()
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self.since
        self.since = now


class PhaseCheckpoints:
    """The checkpoints of one phase, a `saat_tf.training.checkpointing.CheckpointStore`.

    Args:
        run_folder: of the run.
        phase: name of the phase.
        clock: its seconds, which a checkpoint has.
    """

    def __init__(self, run_folder: RunFolder, phase: str, clock: Clock) -> None:
        self.run_folder = run_folder
        self.phase = phase
        self.clock = clock

    def load(self) -> SavedTraining | None:
        """Return what the phase resumes from; None where the run is in another one."""
        position, checkpoint = self.run_folder.position, self.run_folder.checkpoint
        if position is None or checkpoint is None or position.phase != self.phase:
            return None
        self.run_folder.checkpoint = None  # as large as the model
        return SavedTraining(position, checkpoint.arrays, str(checkpoint.folder))

    def save(self, position: Position, arrays: list[np.ndarray]) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written.
        """
        self.clock.tick()
        self.run_folder.save(RunPosition(**dataclasses.asdict(position), phase=self.phase), arrays)
