"""Log of a training for TensorBoard."""

from pathlib import Path

import keras
import tensorflow as tf

from saat_tf.models.code_training import CodeTraining
from trainers.callbacks.robustness_probe import Probe

PROFILED_STEPS = range(3, 8)  # the first steps build graphs and fill caches


class TensorBoardLog(keras.callbacks.Callback):
    """Log each epoch for TensorBoard, on the disk when the epoch ends.

    Scalars: the parts of the loss, the learning rate, the MAPs (accuracies) and the bits flipped (predictions changed)
    after each attack step that the probe finds, and the balance of the bank's worst bit: the rarer of its two values'
    share, 0.5 at best. A histogram of the share of +1 of each bit; pictures of the probe. The MAPs, and the bits
    flipped in the end, are put into `logs` too, for callbacks that come after.

    Args:
        folder: where the logs go.
        probe: what is attacked after each epoch, if anything.
        profile: trace a few steps for TensorBoard's profiler.
    """

    def __init__(self, folder: Path, probe: Probe | None = None, *, profile: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.writer = tf.summary.create_file_writer(str(folder))
        self.probe = probe
        self.steps_to_profile = PROFILED_STEPS if profile else range(0)
        self.steps = 0
        self.profiling = False

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Begin and end the profiler's trace."""
        self.steps += 1
        if self.steps in self.steps_to_profile and not self.profiling:
            tf.profiler.experimental.start(str(self.folder))
            self.profiling = True
        elif self.profiling and self.steps not in self.steps_to_profile:
            self._end_profile()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Log the epoch."""
        measured = self.probe and self.probe.measure(self.model)
        if measured and logs is not None:
            logs.update(measured.logs())
        with self.writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                tf.summary.scalar(f"epoch_{name}", value)
            tf.summary.scalar("epoch_learning_rate", self.model.optimizer.learning_rate)
            if isinstance(self.model, CodeTraining):
                self._log_bank()
            if measured:
                for name, values in measured.by_step().items():
                    for step, value in enumerate(values):
                        tf.summary.scalar(f"{name}/after_step_{step:02d}", value)
                tf.summary.image("attacked", measured.pictures, max_outputs=len(measured.pictures))
        self.writer.flush()

    def _log_bank(self) -> None:
        shares = tf.reduce_mean(tf.cast(tf.constant(self.model.code_bank.codes.numpy()) >= 0, tf.float32), axis=0)
        tf.summary.scalar("bank/balance_of_worst_bit", tf.reduce_min(tf.minimum(shares, 1.0 - shares)))
        tf.summary.histogram("bank/share_of_plus_one", shares)

    def on_train_end(self, logs: dict | None = None) -> None:
        """End a trace that is longer than the training."""
        if self.profiling:
            self._end_profile()

    def _end_profile(self) -> None:
        tf.profiler.experimental.stop()
        self.profiling = False
