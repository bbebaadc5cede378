"""Catastrophic overfitting: robustness that is lost while the training goes well."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import keras
import numpy as np

from saat_tf.files import write_json, write_whole
from saat_tf.models.inner import InnerAttack, stronger
from saat_tf.models.training_model import TrainingModel
from saat_tf.strict_json import read_json, wrong_fields
from saat_tf.text_lists import DataError
from trainers.console.output import warn

OnCollapse = Literal["stop", "rollback", "ignore"]
LOST_SHARE, LOST_MAP, EPOCHS, MOST_ROLLBACKS = 0.5, 0.05, 2, 3
MORE_FLIPPED, FLIPPED_SHARE = 2.0, 0.2


class EpochRobustness(NamedTuple):
    """Result of an epoch's attack on the probe images.

    Args:
        robust: MAP of their adversarial images, or accuracy on them.
        clean: that of the images.
        flipped: share of the bits, or predictions, that the attack flips; unknown in runs of before, and then as many
            as can be.
    """

    robust: float
    clean: float
    flipped: float = 1.0


class ProbeScore(NamedTuple):
    """What the probe measures, and how it is read from the logs of an epoch.

    Args:
        name: of the score.
        flipped: what the attack flips.
        read: (logs, training model) -> what the epoch's attack found.
    """

    name: str
    flipped: str
    read: Callable[[dict, TrainingModel], EpochRobustness]


MAP = ProbeScore(
    "MAP",
    "bits",
    lambda logs, training: EpochRobustness(
        logs["probe_robust_map"],
        logs["probe_clean_map"],
        logs["probe_bits_flipped"] / training.code_bank.code_length,
    ),
)
ACCURACY = ProbeScore(
    "accuracy",
    "predictions",
    lambda logs, training: EpochRobustness(
        logs["probe_robust_accuracy"], logs["probe_clean_accuracy"], logs["probe_predictions_changed"]
    ),
)


class CatastrophicOverfittingError(Exception):
    """Robustness has collapsed."""


def collapsed(history: Sequence[EpochRobustness]) -> bool:
    """Tell whether robustness has collapsed while clean MAP has not.

    It has where, in each of the last two epochs, the clean MAP is no lower than at the most robust epoch before them,
    and the robust MAP is below half of that epoch's and lower by 0.05 at least; or the attack flips at least twice the
    bits of its weakest epoch before, and at least a fifth of the code more. MAP can stay high by a few images that are
    easy, bits cannot.

    Args:
        history: of each epoch.

    Example:
        >>> best, lost = EpochRobustness(0.5, 0.7), EpochRobustness(0.1, 0.8)
        >>> collapsed([EpochRobustness(0.4, 0.7), best, lost, lost])
        True
        >>> collapsed([EpochRobustness(0.5, 0.7), EpochRobustness(0.1, 0.2), EpochRobustness(0.1, 0.2)])
        False
        >>> collapsed([EpochRobustness(0.5, 0.7, 0.2), EpochRobustness(0.4, 0.7, 0.6), EpochRobustness(0.4, 0.7, 0.6)])
        True
    """
    before, last = history[:-EPOCHS], history[-EPOCHS:]
    if not before:
        return False
    best, fewest = max(before), min(epoch.flipped for epoch in before)
    return all(epoch.clean >= best.clean and (_lost(epoch, best) or _flips(epoch, fewest)) for epoch in last)


def read_history(file: Path) -> list[dict]:
    """Read what an `OverfittingMonitor` has seen: the fields of `EpochRobustness` and `rolled_back` of each epoch.

    Raises:
        DataError: the file is damaged.
    """
    remedy = "Restore it, or begin a new run."
    history = read_json(file, remedy=remedy) if file.is_file() else []
    fields = {"robust": int | float, "clean": int | float, "rolled_back": bool}
    if not isinstance(history, list) or any(not isinstance(x, dict) or wrong_fields(x, fields) for x in history):
        raise DataError(f"{file}: expected a list of objects with {', '.join(fields)}. {remedy}")
    return history


def _lost(epoch: EpochRobustness, best: EpochRobustness) -> bool:
    return epoch.robust < LOST_SHARE * best.robust and epoch.robust <= best.robust - LOST_MAP


def _flips(epoch: EpochRobustness, fewest: float) -> bool:
    return epoch.flipped >= MORE_FLIPPED * fewest and epoch.flipped >= fewest + FLIPPED_SHARE


class OverfittingMonitor(keras.callbacks.Callback):
    """Stop, or go back, where `collapsed` says so of what `TensorBoardLog` puts into the logs.

    Going back: every variable (weights, bank, optimizer, what the loss learned) becomes what it was after the most
    robust epoch, but the count of steps, so that learning rate and random starts continue; from there the inner attack
    takes twice as many passes (`saat_tf.models.inner.stronger`). The fourth time it stops.

    What it saw lies in `folder`, so that a training that resumes there decides alike.

    Args:
        action: "stop" or "rollback".
        folder: where history and the best epoch's state go.
        epoch: epochs that are done; what is in `folder` of later ones is forgotten.
        score: what the probe measures.
    """

    def __init__(self, action: OnCollapse, folder: Path, epoch: int, score: ProbeScore = MAP) -> None:
        super().__init__()
        self.action = action
        self.score = score
        self.history_file, self.state_file = folder / "probe.json", folder / "most-robust.npz"
        self.history = read_history(self.history_file)[:epoch]

    @property
    def num_rollbacks(self) -> int:
        """Number of rollbacks so far."""
        return sum(entry["rolled_back"] for entry in self.history)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Take up the inner attack that the training had."""
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        self.first_inner = self.model.inner
        self._set_inner()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Judge the epoch; this callback comes before the one that saves."""
        probed = self.score.read(logs or {}, self.model)
        entry = {**probed._asdict(), "rolled_back": False}
        self.history.append(entry)
        seen = self._since_rollback()
        if probed.robust >= max(epoch.robust for epoch in seen):
            write_whole(self.state_file, self._save_state)
        if collapsed(seen):
            self._answer(epoch, max(seen), seen[-1])
        write_json(self.history_file, self.history)

    def _since_rollback(self) -> list[EpochRobustness]:
        """Return each epoch since the last rollback, in front the one that it went back to."""
        seen: list[EpochRobustness] = []
        for entry in self.history:
            seen.append(EpochRobustness(*(entry[name] for name in EpochRobustness._fields if name in entry)))
            if entry["rolled_back"]:
                seen = [max(seen)]
        return seen

    def _answer(self, epoch: int, best: EpochRobustness, now: EpochRobustness) -> None:
        what = (
            f"Robust {self.score.name} of the probe images collapsed from {best.robust:.3f} to {now.robust:.3f} by "
            f"epoch {epoch + 1}, clean {self.score.name} went from {best.clean:.3f} to {now.clean:.3f}, and "
            f"{self.score.flipped} flipped from "
            f"{best.flipped:.0%} to {now.flipped:.0%}: the model has learned to mislead the training's own attack "
            "(catastrophic overfitting)."
        )
        if self.action == "stop" or self.num_rollbacks == MOST_ROLLBACKS:
            raise CatastrophicOverfittingError(
                f"{what} Begin a new run with an --inner of more passes, more --num-steps, a smaller --step-255 or "
                "--epsilon-255, or a lower --learning-rate. Or resume this one, as it is by --on-collapse ignore, "
                "or from its most robust epoch with twice the passes: --resume --allow-changes "
                "--on-collapse rollback"
            )
        self.history[-1]["rolled_back"] = True
        with np.load(self.state_file, allow_pickle=False) as stored:
            for name, variable in self._state().items():
                variable.assign(stored[name])
        self._set_inner()
        warn(f"{what} Going back to the most robust epoch, with {self.model.inner.passes} inner steps.")

    def _state(self) -> dict[str, keras.Variable]:
        counts = [optimizer.iterations for optimizer in self.model.optimizers]
        # Metrics begin anew with each epoch, and to read them takes all workers of a run over several machines.
        left_out = {id(variable) for variable in [*counts, *self.model.metric_variables()]}
        state = self.model.training_state()
        return {f"{i:06d}": variable for i, variable in enumerate(state) if id(variable) not in left_out}

    def _save_state(self, file: Path) -> None:
        with open(file, "wb") as stream:
            np.savez(stream, **{name: variable.numpy() for name, variable in self._state().items()})

    def _set_inner(self) -> None:
        """Make the inner attack stronger for each rollback; the training function is made anew where it changes."""
        inner: InnerAttack = self.first_inner
        for _ in range(self.num_rollbacks):
            inner = stronger(inner, self.model.threat_model)
        if inner != self.model.inner:
            self.model.inner = inner
            self.model.make_train_function(force=True)
