"""Catastrophic overfitting: robustness that is lost while the training goes well."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from saat_tf.files import write_json, write_whole
from trainers.console import warn

OnCollapse = Literal["stop", "rollback", "ignore"]
LOST_SHARE, LOST_MAP, EPOCHS, MOST_ROLLBACKS = 0.5, 0.05, 2, 3


class CollapseError(Exception):
    """Robustness has collapsed."""


def collapsed(history: Sequence[tuple[float, float]]) -> bool:
    """Tell whether robust MAP has collapsed while clean MAP went on.

    It has where, in each of the last two epochs, the robust MAP is below half of its best before them and lower by 0.05
    at least, and the clean MAP is no lower than at that best epoch.

    Args:
        history: (robust MAP, clean MAP) of each epoch.

    Example:
        >>> collapsed([(0.4, 0.7), (0.5, 0.7), (0.1, 0.8), (0.1, 0.8)])
        True
        >>> collapsed([(0.5, 0.7), (0.1, 0.8)]), collapsed([(0.5, 0.7), (0.1, 0.2), (0.1, 0.2)])
        (False, False)
    """
    before, last = history[:-EPOCHS], history[-EPOCHS:]
    if not before:
        return False
    best, clean_then = max(before)
    return all(
        robust < LOST_SHARE * best and robust <= best - LOST_MAP and clean >= clean_then for robust, clean in last
    )


class CollapseWatch(keras.callbacks.Callback):
    """Stop, or go back, where `collapsed` says so of `watched_robust_map` and `watched_clean_map` in the logs.

    Going back: every variable (weights, bank, optimizer, what the loss learnt) becomes what it was after the most
    robust epoch, but the count of steps, so that learning rate and random starts go on; from there the inner attack
    takes twice as many steps. The fourth time it stops.

    What it saw lies in `folder`, so that a training that goes on there decides alike.

    Args:
        action: "stop" or "rollback".
        folder: where history and the best epoch's state go.
        epoch: epochs that are done; what is in `folder` of later ones is forgotten.
    """

    def __init__(self, action: OnCollapse, folder: Path, epoch: int) -> None:
        super().__init__()
        self.action = action
        self.history_file, self.state_file = folder / "watched.json", folder / "most-robust.npz"
        stored = json.loads(self.history_file.read_text(encoding="utf-8")) if self.history_file.is_file() else []
        self.history = stored[:epoch]

    @property
    def num_rollbacks(self) -> int:
        """How often the training has gone back."""
        return sum(entry["rolled_back"] for entry in self.history)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Take up the number of inner steps that the training had."""
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        self._set_num_steps(self.num_rollbacks)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Judge the epoch; this callback comes before the one that saves."""
        entry = {"robust": logs["watched_robust_map"], "clean": logs["watched_clean_map"], "rolled_back": False}
        self.history.append(entry)
        seen = self._since_rollback()
        if entry["robust"] >= max(robust for robust, _ in seen):
            write_whole(self.state_file, self._save_state)
        if collapsed(seen):
            self._answer(epoch, max(seen), seen[-1])
        write_json(self.history_file, self.history)

    def _since_rollback(self) -> list[tuple[float, float]]:
        """Return (robust, clean) of each epoch since the last rollback, in front the one that it went back to."""
        seen: list[tuple[float, float]] = []
        for entry in self.history:
            seen.append((entry["robust"], entry["clean"]))
            if entry["rolled_back"]:
                seen = [max(seen)]
        return seen

    def _answer(self, epoch: int, best: tuple[float, float], now: tuple[float, float]) -> None:
        what = (
            f"Robust MAP of the watched images collapsed from {best[0]:.3f} to {now[0]:.3f} by epoch {epoch + 1}, and "
            f"clean MAP went from {best[1]:.3f} to {now[1]:.3f}: the model has learnt to mislead the training's own "
            "attack (catastrophic overfitting)."
        )
        if self.action == "stop" or self.num_rollbacks == MOST_ROLLBACKS:
            raise CollapseError(
                f"{what} Begin a new run with more --num-steps, a smaller --step-255 or --epsilon-255, or a lower "
                "--learning-rate. Or let this one go on, as it is by --on-collapse ignore, or from its most robust "
                "epoch with twice the inner steps: --resume --allow-changes --on-collapse rollback"
            )
        self.history[-1]["rolled_back"] = True
        with np.load(self.state_file, allow_pickle=False) as stored:
            for name, variable in self._state().items():
                variable.assign(stored[name])
        self._set_num_steps(self.num_rollbacks)
        warn(f"{what} Going back to the most robust epoch, with {self.model.attack.num_steps} inner steps.")

    def _state(self) -> dict[str, keras.Variable]:
        counts = [optimizer.iterations for optimizer in self.model.optimizers]
        # Metrics begin anew with each epoch, and to read them takes all workers of a run over several machines.
        left_out = {id(variable) for variable in [*counts, *self.model.metric_variables()]}
        state = self.model.training_state()
        return {f"{i:06d}": variable for i, variable in enumerate(state) if id(variable) not in left_out}

    def _save_state(self, file: Path) -> None:
        with open(file, "wb") as stream:
            np.savez(stream, **{name: variable.numpy() for name, variable in self._state().items()})

    def _set_num_steps(self, rollbacks: int) -> None:
        """Double the inner steps for each rollback; the training function is made anew where they change."""
        if not hasattr(self, "first_steps"):
            self.first_steps = self.model.attack.num_steps
        num_steps = self.first_steps * 2**rollbacks
        if num_steps != self.model.attack.num_steps:
            self.model.attack = dataclasses.replace(self.model.attack, num_steps=num_steps)
            self.model.make_train_function(force=True)
