"""Checkpoints of one training in a folder, and the history of its epochs."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from saat_tf.checkpoints import FACTS, Checkpoint, newest_checkpoint, remove_incomplete, save_checkpoint
from saat_tf.strict_json import wrong_fields
from saat_tf.text_lists import DataError
from saat_tf.training.checkpointing import Position, SavedTraining

POSITION_FIELDS = {"epoch": int, "step": int, "steps": int, "stopped": bool}
FACT_FIELDS = {"position": dict, "identity": dict, "epochs": list, "history": dict}


class ResumedHistory(keras.callbacks.History):
    """History that continues that of the epochs before the interruption.

    Args:
        epochs: numbers of the epochs.
        history: values of each epoch by name.
    """

    def __init__(self, epochs: list[int], history: Mapping[str, list[float]]) -> None:
        super().__init__()
        self.before = list(epochs)
        self.history = {name: list(values) for name, values in history.items()}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Begin with the epochs of before."""
        self.epoch = list(self.before)


class CheckpointFolder:
    """A `saat_tf.training.checkpointing.CheckpointStore` in a folder of its own.

    Args:
        folder: the folder; made with the first checkpoint.
        identity: what must be the same where a training resumes, as JSON knows it.

    Raises:
        DataError: the newest checkpoint is of another training, or none of this kind.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = dict(identity)
        remove_incomplete(folder)
        self.checkpoint, self.damaged = newest_checkpoint(folder)
        self.number = int(self.checkpoint.folder.name) if self.checkpoint else 0
        self.history = ResumedHistory([], {})
        if self.checkpoint is not None:
            self._check(self.checkpoint)
            self.history = ResumedHistory(self.checkpoint.facts["epochs"], self.checkpoint.facts["history"])

    def load(self) -> SavedTraining | None:
        """Return what the training resumes from."""
        checkpoint, self.checkpoint = self.checkpoint, None  # as large as the model
        if checkpoint is None:
            return None
        return SavedTraining(Position(**checkpoint.facts["position"]), checkpoint.arrays, str(checkpoint.folder))

    def save(self, position: Position, arrays: list[np.ndarray]) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written.
        """
        self.number += 1
        history = {name: list(map(float, values)) for name, values in self.history.history.items()}
        facts = {
            "position": dataclasses.asdict(position),
            "identity": self.identity,
            "epochs": self.history.epoch,
            "history": history,
        }
        save_checkpoint(self.folder, self.number, arrays, facts)

    def _check(self, checkpoint: Checkpoint) -> None:
        facts, file = checkpoint.facts, checkpoint.folder / FACTS
        wrong = wrong_fields(facts, FACT_FIELDS)
        wrong = wrong or [f"position.{name}" for name in wrong_fields(facts["position"], POSITION_FIELDS)]
        if wrong or facts["position"].keys() != POSITION_FIELDS.keys():
            raise DataError(
                f"{file}: {', '.join(wrong) or 'position'} missing or of another type. Remove the folder, and the "
                "training resumes from the checkpoint before."
            )
        before = facts["identity"]
        changed = [name for name in sorted({*before, *self.identity}) if before.get(name) != self.identity.get(name)]
        if changed:
            found = ", ".join(f"{name} {before.get(name)} -> {self.identity.get(name)}" for name in changed)
            raise DataError(
                f"{file}: the training that is to resume has changed: {found}. Resume with what it began with, or "
                "choose another `checkpoint_dir`."
            )
