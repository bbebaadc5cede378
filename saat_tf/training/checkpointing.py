"""Checkpoints while a model trains, and an end by Ctrl-C that loses nothing."""

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Protocol

import keras
import numpy as np

from saat_tf.models.training_model import TrainingModel
from saat_tf.text_lists import DataError
from saat_tf.training.callback_state import set_state, state_arrays
from saat_tf.training.workers import Workers

# A long epoch is saved on the way, that little is lost.
MINUTES = 10
# Steps from one look at the losses to the next: a look waits for the GPU, which then waits for the next step.
LOOK_EVERY = 10
LOWER_RATE = "lower it and resume from the last checkpoint, which is older."


class NotFiniteError(Exception):
    """A loss or a weight has become NaN or infinite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
    """Position in a training.

    Args:
        epoch: epochs that are done.
        step: steps of the next epoch that are done.
        steps: steps that are done, in all.
        stopped: whether a callback has ended the training.
    """

    epoch: int
    step: int
    steps: int
    stopped: bool = False


@dataclasses.dataclass(frozen=True)
class SavedTraining:
    """What a training resumes from.

    Args:
        position: where it was.
        arrays: the values of its variables, and behind them the state of callbacks.
        place: where this was read, for messages.
    """

    position: Position
    arrays: list[np.ndarray]
    place: str


class CheckpointStore(Protocol):
    """Where the checkpoints of a training are."""

    def load(self) -> SavedTraining | None:
        """Return what the training resumes from; None where it begins. Asked once."""

    def save(self, position: Position, arrays: list[np.ndarray]) -> None:
        """Write a checkpoint, or raise `OSError`."""


class Checkpointing(keras.callbacks.Callback):
    """Save a training, with all that resuming needs: after each epoch, after so many steps, every ten minutes.

    What is saved is each variable of model, bank, hashing loss, optimizer, metrics and dropout, as it is in memory, and
    the position, and what other callbacks of Keras count and compare with. Batches and random starts are functions of
    seed and position and need no saving.

    Where a loss or a variable is not finite it raises `NotFiniteError`, and saves nothing. To look at a loss is to wait
    for the device, so that is done every ten steps, and before each checkpoint.

    As a context it turns the first SIGINT (Ctrl-C) or SIGTERM into a checkpoint and a `KeyboardInterrupt` after the
    step that is being done; the second interrupts at once. Of several workers any one's signal counts for all, within
    ten steps.

    Args:
        store: where the checkpoints are; None at a worker that is not the chief.
        training: the compiled model, its optimizer built.
        epoch_steps: steps of an epoch.
        every: steps from checkpoint to checkpoint, besides those after epochs.
        workers: those that train together; this process alone by default.
        callbacks: others of the training, called before this one; see `saat_tf.training.callback_state`.
        remedy: what a message that numbers are not finite advises.
        notify: shows the line that a signal was received.
    """

    def __init__(
        self,
        store: CheckpointStore | None,
        training: TrainingModel,
        *,
        epoch_steps: int,
        every: int | None = None,
        workers: Workers | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        remedy: str = LOWER_RATE,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self.store = store
        self.epoch_steps = epoch_steps
        self.every = every
        self.workers = workers or Workers(training.distribute_strategy)
        self.callbacks = callbacks
        self.callback_arrays: list[np.ndarray] = []
        self.remedy = remedy
        self.notify = notify
        self.variables = training.training_state()
        self.metric_variables = training.metric_variables()
        self.epoch = self.step = self.steps = 0
        self.stopped = False
        self.restored_metrics: list[np.ndarray] | None = None
        self.asked = False
        self.saved_at = time.monotonic()

    def restore(self) -> bool:
        """Set everything to the checkpoint, if there is one; return whether there was.

        All workers end with what the chief has: its checkpoint, or what it begins with.

        Raises:
            DataError: the checkpoint is one of another model.
        """
        arrays = self._saved_arrays()
        restored = arrays is not None
        if self.workers.count > 1:
            place = np.array([restored, self.epoch, self.step, self.steps, self.stopped], np.int64)
            found = self.workers.from_chief([place])[0].tolist()
            restored, self.epoch, self.step, self.steps, self.stopped = found
            own = [variable.numpy() for variable in self.variables]  # to read a metric takes all workers
            arrays = self.workers.from_chief(own if arrays is None else arrays)
        if arrays is not None:
            for variable, array in zip(self.variables, arrays, strict=True):
                variable.assign(array)
            if self.step:
                self.restored_metrics = arrays[-len(self.metric_variables) :]
        return bool(restored)

    def _saved_arrays(self) -> list[np.ndarray] | None:
        """Take the position of the checkpoint, and return its arrays."""
        saved = None if self.store is None else self.store.load()
        if saved is None:
            return None
        shapes = [tuple(variable.shape) for variable in self.variables]
        arrays, state = saved.arrays[: len(shapes)], saved.arrays[len(shapes) :]
        if shapes != [array.shape for array in arrays] or any(array.dtype.kind != "U" for array in state[:1]):
            raise DataError(
                f"{saved.place}: is of another model or optimizer: it has {len(saved.arrays)} variables, "
                f"{len(shapes)} are expected, or their shapes differ. Resume with the options that the run began with."
            )
        at = saved.position
        self.epoch, self.step, self.steps, self.stopped = at.epoch, at.step, at.steps, at.stopped
        self.callback_arrays = state
        return arrays

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Set the other callbacks to the state of the checkpoint; they have just been reset."""
        set_state(self.callbacks, self.callback_arrays)
        self.callback_arrays = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Bring back the means of an epoch that was cut off; they have just been reset."""
        if self.restored_metrics is not None:
            for variable, array in zip(self.metric_variables, self.restored_metrics, strict=True):
                variable.assign(array)
            self.restored_metrics = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count the step, save where it is time, and end where that is asked for."""
        self.step += 1
        self.steps += 1
        is_last = self.step == self.epoch_steps
        is_due = self.every is not None and self.step % self.every == 0
        is_told = self.asked and self.workers.count == 1
        if not (is_last or is_due or is_told or self.step % LOOK_EVERY == 0):
            return
        if not all(math.isfinite(float(value)) for value in (logs or {}).values()):
            raise NotFiniteError(self._advice("A loss"))
        if is_last:  # on_epoch_end follows, where the position is the next epoch's beginning
            return
        is_time, self.asked = self.workers.any(time.monotonic() - self.saved_at > 60 * MINUTES, self.asked)
        if is_time or self.asked or is_due:
            self._save()
        if self.asked:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Save; this callback comes after those that log."""
        self.epoch, self.step = epoch + 1, 0
        (self.stopped,) = self.workers.any(bool(self.model.stop_training))
        self.model.stop_training = self.stopped
        self._save()
        (self.asked,) = self.workers.any(self.asked)
        if self.asked:
            raise KeyboardInterrupt

    def _save(self) -> None:
        position = Position(epoch=self.epoch, step=self.step, steps=self.steps, stopped=self.stopped)
        arrays = [variable.numpy() for variable in self.variables]
        if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
            raise NotFiniteError(self._advice("A weight"))
        if self.store is not None:
            self.store.save(position, [*arrays, *state_arrays(self.callbacks)])
        self.saved_at = time.monotonic()

    def _advice(self, what: str) -> str:
        return (
            f"{what} is NaN or infinite after {self.steps} steps. The learning rate is too high, most often: "
            f"{self.remedy}"
        )

    def __enter__(self) -> "Checkpointing":
        # Python lets the main thread alone take signals.
        in_main = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGINT, signal.SIGTERM) if in_main else ()
        self.handlers = {number: signal.signal(number, self._ask) for number in signals}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self.notify is not None:
            self.notify("Ending with a checkpoint, within ten steps. Once more ends at once.")
