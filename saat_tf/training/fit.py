"""Training with exact resume, from Python."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from saat_tf.data.batches import evaluation_batches, training_epochs
from saat_tf.data.pipeline import Split
from saat_tf.data.replay import replayed
from saat_tf.files import lock_folder
from saat_tf.images import check_image_spec
from saat_tf.models.adversarial_step import AdversarialStep
from saat_tf.models.training_model import TrainingModel
from saat_tf.replicas import taken_here
from saat_tf.training.checkpoint_folder import CheckpointFolder
from saat_tf.training.checkpointing import Checkpointing
from saat_tf.training.loop import train

EVALUATION_BATCH = 128


def fit(
    training: TrainingModel,
    split: Split,
    *,
    epochs: int,
    checkpoint_dir: str | Path,
    batch_size: int = 32,
    seed: int = 0,
    flip: bool = False,
    random_crop: bool = False,
    checkpoint_every: int | None = None,
    validation_data: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Train a model, and where it was interrupted resume it, to the same bits.

    Called again with the same arguments, in a new process as well, it resumes from the newest checkpoint: weights,
    bank, optimizer, what the loss learnt, metrics, history and the place in the data are those of before, and the
    result is that of a training without interruption. Of a finished training it gives the model its last state. Begin
    each process by `keras.utils.set_random_seed`, which the order of the data depends on. `EarlyStopping`,
    `ReduceLROnPlateau` and `ModelCheckpoint` resume too, with their best value, patience and best weights; the state of
    callbacks of other classes is theirs.

    The bank is made where there is none, and filled with the codes of the training set before the first step.

    Args:
        training: the compiled model.
        split: the training set.
        epochs: in all; more of them continue a finished training.
        checkpoint_dir: folder of the checkpoints, of this training alone. The newest two are kept.
        batch_size: images a step.
        seed: of order, flips and crops.
        flip: mirror images left to right at random.
        random_crop: cut images at a random place; see `saat_tf.data.training_epochs`.
        checkpoint_every: steps from checkpoint to checkpoint, besides those after each epoch and every ten minutes.
        validation_data: images and labels, or a data set of batches, whose losses end each epoch.
        callbacks: of Keras; they see `logs` as in `keras.Model.fit`.

    Returns:
        The history of all epochs, those before an interruption included.

    Raises:
        ValueError: the model is not compiled, a number is out of its range, or it does not take the images.
        DataError: the checkpoints are of another training.
        BlockingIOError: another process trains there.
        KeyboardInterrupt: by Ctrl-C or SIGTERM, with a checkpoint.
        saat_tf.training.NotFiniteError: a loss or a weight is not finite.
    """
    if not training.compiled:
        raise ValueError("The model must be compiled. Received: one that is not. Call `compile` first.")
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("checkpoint_every", checkpoint_every or 1)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {value}.")
    folder, strategy = Path(checkpoint_dir), training.distribute_strategy
    folder.mkdir(parents=True, exist_ok=True)
    items = evaluation_batches(split, EVALUATION_BATCH)
    check_image_spec(items.element_spec[0], training.encoder.image_size)
    training.set_items(split.labels)
    training.checked_validation(validation_data)
    with strategy.scope():
        training.optimizer.build(training.trainable_variables)
    replays = training.inner.replays if isinstance(training, AdversarialStep) else 1
    order: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "flip": flip, "random_crop": random_crop}
    batches = training_epochs(split, needed=taken_here(strategy), **order)
    steps = -(-len(split) // batch_size) * replays
    with lock_folder(folder):
        store = CheckpointFolder(folder, {"labels": labels_digest(split.labels), "replays": replays, **order})
        saving = Checkpointing(store, training, epoch_steps=steps, every=checkpoint_every, callbacks=callbacks)
        with saving as checkpointing:
            if not checkpointing.restore():
                training.prepare(items)
            train(
                training,
                replayed(batches, replays),
                epochs=epochs,
                callbacks=[*callbacks, store.history],
                checkpointing=checkpointing,
                validation_data=validation_data,
            )
    return store.history


def labels_digest(labels: np.ndarray) -> str:
    """Return a SHA-256 of labels and their order: hexadecimal."""
    return hashlib.sha256(f"{labels.shape}".encode() + np.ascontiguousarray(labels).tobytes()).hexdigest()
