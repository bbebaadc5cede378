"""The training loop that can resume after any step."""

from collections.abc import Sequence
from typing import Any

import keras

from saat_tf.data.replay import Epochs
from saat_tf.models.training_model import TrainingModel
from saat_tf.replicas import distribute
from saat_tf.training.checkpointing import Checkpointing


def train(
    training: TrainingModel,
    batches: Epochs,
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpointing: Checkpointing,
    validation_data: Any = None,
) -> None:
    """Train from the position of `checkpointing` on, with the calls of callbacks that Keras' `fit` makes.

    Keras' `fit` begins and ends with whole epochs, and averages the weights whenever it ends; hence this loop. A
    callback may end it by `stop_training`, of several workers that of any at the end of an epoch.

    Args:
        training: the compiled model, its optimizer built and its state that of the position.
        batches: (epoch, skipped) -> the epoch's batches from number `skipped` on.
        epochs: in all, those before the position included.
        callbacks: called in their order, and `checkpointing` after them.
        checkpointing: restored already.
        validation_data: what `training.evaluate` takes as its first argument, evaluated after each epoch; arrays as a
            pair.
    """
    strategy = training.distribute_strategy
    called = keras.callbacks.CallbackList([*callbacks, checkpointing], model=training)
    training.stop_training = checkpointing.stopped
    training.make_train_function()
    called.on_train_begin()
    is_alone = checkpointing.workers.count == 1
    for epoch in range(checkpointing.epoch, epochs):
        if training.stop_training:
            break
        training.reset_metrics()
        called.on_epoch_begin(epoch)
        iterator = iter(distribute(batches(epoch, checkpointing.step), strategy))
        for step in range(checkpointing.step, checkpointing.epoch_steps):
            called.on_train_batch_begin(step)
            called.on_train_batch_end(step, training.train_function(iterator))
            if is_alone and training.stop_training:
                break
        logs = {name: float(value) for name, value in training.get_metrics_result().items()}
        if validation_data is not None:
            logs |= validate(training, validation_data, called)
        called.on_epoch_end(epoch, logs)
    training.optimizer.finalize_variable_values(training.trainable_weights)
    called.on_train_end()


def validate(training: TrainingModel, data: Any, callbacks: keras.callbacks.CallbackList) -> dict[str, float]:
    """Return the losses of data to validate on, their names with `val_` in front as in Keras."""
    arrays = data if isinstance(data, tuple | list) else (data,)
    found = training.evaluate(*arrays, verbose=0, callbacks=callbacks, return_dict=True)
    return {f"val_{name}": float(value) for name, value in found.items()}
