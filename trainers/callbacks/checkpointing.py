"""Checkpoints while a model trains, and an end by Ctrl-C that loses nothing."""

import math
import signal
import threading
import time
from types import FrameType

import keras
import numpy as np

from saat_tf.models.training_model import TrainingModel
from saat_tf.text_lists import DataError
from trainers.console.output import LOOK_EVERY, say
from trainers.distributed.coordination import Workers
from trainers.run_folder.state import Clock, Position, RunFolder

# A long epoch is saved on the way, that little is lost.
MINUTES = 10


class NotFiniteError(Exception):
    """A loss or a weight has become NaN or infinite."""


class Checkpointing(keras.callbacks.Callback):
    """Save a training, with all that resuming needs: after each epoch, after so many steps, every ten minutes.

    What is saved is each variable of model, bank, hashing loss, optimizer, metrics and dropout, as it is in memory, and
    the position. Batches and random starts are functions of seed and position and need no saving.

    Where a loss or a variable is not finite it raises `NotFiniteError`, and saves nothing. To look at a loss is to wait
    for the device, so that is done every ten steps, and before each checkpoint.

    As a context it turns the first SIGINT (Ctrl-C) or SIGTERM into a checkpoint and a `KeyboardInterrupt` after the
    step that is being done; the second interrupts at once. Of several workers any one's signal counts for all, within
    ten steps.

    Args:
        run_folder: what keeps the checkpoints; None at a worker that is not the chief.
        training: the compiled model, its optimizer built.
        phase: name of the phase.
        clock: its seconds; None where `run_folder` is.
        epoch_steps: steps of an epoch.
        every: steps from checkpoint to checkpoint, besides those after epochs.
        workers: those that train together.
    """

    def __init__(
        self,
        run_folder: RunFolder | None,
        training: TrainingModel,
        phase: str,
        clock: Clock | None,
        *,
        epoch_steps: int,
        every: int | None = None,
        workers: Workers,
    ) -> None:
        super().__init__()
        self.run_folder = run_folder
        self.phase = phase
        self.clock = clock
        self.epoch_steps = epoch_steps
        self.every = every
        self.workers = workers
        self.variables = training.training_state()
        self.metric_variables = training.metric_variables()
        self.epoch = self.step = self.steps = 0
        self.restored_metrics: list[np.ndarray] | None = None
        self.asked = False
        self.saved_at = time.monotonic()

    def restore(self) -> bool:
        """Set everything to the checkpoint, if that is one of this phase; return whether it was.

        All workers end with what the chief has: its checkpoint, or what it begins with.

        Raises:
            DataError: the checkpoint is one of another model.
        """
        arrays = self._checkpoint_arrays()
        restored = arrays is not None
        if self.workers.count > 1:
            place = np.array([restored, self.epoch, self.step, self.steps], np.int64)
            restored, self.epoch, self.step, self.steps = self.workers.from_chief([place])[0].tolist()
            own = [variable.numpy() for variable in self.variables]  # to read a metric takes all workers
            arrays = self.workers.from_chief(own if arrays is None else arrays)
        if arrays is not None:
            for variable, array in zip(self.variables, arrays, strict=True):
                variable.assign(array)
            if self.step:
                self.restored_metrics = arrays[-len(self.metric_variables) :]
        return bool(restored)

    def _checkpoint_arrays(self) -> list[np.ndarray] | None:
        """Take the run_folder's checkpoint, and its position, where that is one of this phase."""
        folder = self.run_folder
        position, checkpoint = (folder.position, folder.checkpoint) if folder else (None, None)
        if folder is None or position is None or checkpoint is None or position.phase != self.phase:
            return None
        shapes = [tuple(variable.shape) for variable in self.variables]
        if shapes != [array.shape for array in checkpoint.arrays]:
            raise DataError(
                f"{checkpoint.folder}: is of another model or optimizer: it has {len(checkpoint.arrays)} variables, "
                f"{len(shapes)} are expected, or their shapes differ. Resume with the options that the run began with."
            )
        self.epoch, self.step, self.steps = position.epoch, position.step, position.steps
        folder.checkpoint = None  # as large as the model
        return checkpoint.arrays

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
        self._save()
        (self.asked,) = self.workers.any(self.asked)
        if self.asked:
            raise KeyboardInterrupt

    def _save(self) -> None:
        position = Position(phase=self.phase, epoch=self.epoch, step=self.step, steps=self.steps)
        arrays = [variable.numpy() for variable in self.variables]
        if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
            raise NotFiniteError(self._advice("A weight"))
        if self.run_folder is not None and self.clock is not None:
            self.clock.tick()
            self.run_folder.save(position, arrays)
        self.saved_at = time.monotonic()

    def _advice(self, what: str) -> str:
        rate = "--pretrain-learning-rate" if self.phase == "hashing" else "--learning-rate"
        return (
            f"{what} is NaN or infinite after {self.steps} steps of {self.phase}. The learning rate is too high, most "
            f"often: lower {rate} and resume from the last checkpoint, which is older, by --resume --allow-changes"
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
        say("Ending with a checkpoint, within ten steps. Once more ends at once.")
