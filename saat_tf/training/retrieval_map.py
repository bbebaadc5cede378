"""MAP of queries against a database after an epoch, clean and under attack."""

import keras
import numpy as np

from saat_tf.attacks import build_attack
from saat_tf.data import RetrievalData, Split, array_split, evaluation_batches
from saat_tf.evaluation import evaluate
from saat_tf.images import check_image_spec
from saat_tf.threat_model import ThreatModel

Data = Split | tuple[np.ndarray, np.ndarray]
ATTACK = "mainstay"
BATCH = 128


class RetrievalMAP(keras.callbacks.Callback):
    """Put the MAP of queries into the logs of an epoch: `val_map`, and `val_robust_map` of their adversarial images.

    Callbacks after it can monitor both, such as `EarlyStopping("val_robust_map", mode="max")` and `ModelCheckpoint`,
    and so does the history. The attack is the mainstay attack on the encoder as it is, with steps of 1/255. Nothing of
    the model changes.

    Args:
        queries: a `Split`, or images (Q, S, S, 3) in [0, 1] and labels (Q, C) of 0/1. Choose others than those of the
            final test.
        database: the same, of what is searched.
        train: the training set, for the attack's mainstay codes; by default the database.
        epsilon: radius of the attack in pixel units of [0, 1].
        num_steps: its steps.
        top_k: k of MAP@k; the whole database by default.
        every: epochs from one score to the next; the others have none in their logs, and a callback that monitors one
            of them warns.

    Raises:
        ValueError: a number out of its range, or data that are not images and labels of one set of classes.

    Example:
        >>> scores = RetrievalMAP((np.zeros((2, 16, 16, 3), np.float32), np.eye(2)), (np.zeros((4, 16, 16, 3),
        ...     np.float32), np.eye(2)[[0, 1, 0, 1]]), num_steps=1)
        >>> stop = keras.callbacks.EarlyStopping("val_robust_map", mode="max", patience=3)
        >>> callbacks = [scores, stop]  # in this order
    """

    def __init__(
        self,
        queries: Data,
        database: Data,
        *,
        train: Data | None = None,
        epsilon: float = 8 / 255,
        num_steps: int = 20,
        top_k: int | None = None,
        every: int = 1,
    ) -> None:
        super().__init__()
        if num_steps < 1 or every < 1:
            raise ValueError(f"`num_steps` and `every` must be at least 1. Received: {num_steps} and {every}.")
        self.epsilon = ThreatModel(epsilon).epsilon
        self.num_steps = num_steps
        self.top_k = top_k
        self.every = every
        splits = [_split(data) for data in (database if train is None else train, database, queries)]
        widths = [split.labels.shape[1] for split in splits]
        if len(set(widths)) > 1:
            raise ValueError(
                "Training set, database and queries must have labels of one set of classes. Received: "
                f"{', '.join(map(str, widths))} columns."
            )
        self.data = RetrievalData("validation", [f"label {column}" for column in range(widths[0])], *splits)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Check that the model has an encoder, and that it takes the images.

        Raises:
            ValueError: it has none, or takes others.
        """
        encoder = getattr(self.model, "encoder", None)
        if encoder is None:
            raise ValueError(
                f"`RetrievalMAP` scores the `encoder` of the model that is trained. Received: a "
                f"{type(self.model).__name__} without one. Train by `HashingTraining`, `SAAT`, `CgAT` or `ATRDH`."
            )
        for split in (self.data.train, self.data.database, self.data.test):
            check_image_spec(evaluation_batches(split, BATCH).element_spec[0], encoder.image_size)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Score the encoder."""
        if logs is None or (epoch + 1) % self.every:
            return
        report = evaluate(
            self.model.encoder,
            self.data,
            lambda known: build_attack(ATTACK, self.epsilon, known, num_steps=self.num_steps),
            top_k=self.top_k,
            batch_size=BATCH,
        )
        logs |= {"val_map": float(report.clean_map), "val_robust_map": float(report.attacked_map)}


def _split(data: Data) -> Split:
    return data if isinstance(data, Split) else array_split(*data)
