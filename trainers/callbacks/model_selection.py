"""Choosing the epoch by what no training has seen: robust MAP on held-out queries."""

import dataclasses
from pathlib import Path

import keras
import numpy as np

from saat_tf.attacks import build_attack
from saat_tf.data import RetrievalData, spread_indices, subset
from saat_tf.evaluation import evaluate
from saat_tf.files import write_json, write_whole
from saat_tf.strict_json import read_object
from saat_tf.threat_model import from_255
from trainers.run_folder.models import load_weights

ATTACK, ATTACK_STEPS = "mainstay", 20
BATCH = 128


def hold_out(data: RetrievalData, num_queries: int) -> tuple[RetrievalData, RetrievalData | None]:
    """Take `num_queries` training images out of the training set, spread evenly: lists can be in order of subjects.

    Returns:
        The data to train on, and data whose queries are those images and whose database is the rest of the training
        set, so that no query of the test is looked at; None where `num_queries` is 0.

    Raises:
        ValueError: no training image would be left.
    """
    return take_out(data, num_queries) if num_queries else (data, None)


def take_out(data: RetrievalData, num_queries: int) -> tuple[RetrievalData, RetrievalData]:
    """Do `hold_out` for at least one query."""
    available = len(data.train)
    if num_queries >= available:
        raise ValueError(
            f"--held-out-queries must leave training images. Received: {num_queries} of {available} images."
        )
    held = np.array(spread_indices(available, num_queries))
    train = subset(data.train, np.setdiff1d(np.arange(available), held))
    queries = dataclasses.replace(subset(data.train, held), cache=False)
    # A plain RetrievalData: of a data set of files, the lists name all images.
    held_out = RetrievalData(data.name, data.class_names, train, train, queries)
    return dataclasses.replace(data, train=train), held_out


class RobustCheckpoint(keras.callbacks.Callback):
    """After each epoch attack the held-out queries; end with the encoder's weights of the epoch with the highest MAP.

    The MAP is `held_out_robust_map` in the logs. Where the optimizer averages the weights, the averages are scored and
    kept. The best weights so far and their score lie in `folder`, so that a training that resumes there resumes with
    them.

    Args:
        held_out: see `hold_out`.
        epsilon_255: radius of the attack in units of 1/255.
        folder: where best.weights.h5 and best.json go.
        seed: of the attack.
    """

    def __init__(self, held_out: RetrievalData, epsilon_255: float, folder: Path, *, seed: int) -> None:
        super().__init__()
        self.held_out = held_out
        self.epsilon = from_255(epsilon_255)
        self.weights_file = folder / "best.weights.h5"
        self.score_file = folder / "best.json"
        self.seed = seed

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Make the folder, which other callbacks make only at the first checkpoint."""
        self.weights_file.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Score the encoder, and keep its weights where they are the best so far."""
        optimizer, weights = self.model.optimizer, self.model.trainable_weights
        before = [weight.numpy() for weight in weights]
        optimizer.finalize_variable_values(weights)
        report = evaluate(
            self.model.encoder,
            self.held_out,
            lambda known: build_attack(ATTACK, self.epsilon, known, num_steps=ATTACK_STEPS),
            batch_size=BATCH,
            seed=self.seed,
        )
        if report.attacked_map > self._best():
            write_whole(self.weights_file, self.model.encoder.save_weights)
            write_json(self.score_file, {"epoch": epoch + 1, "held_out_robust_map": report.attacked_map})
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
        if logs is not None:
            logs["held_out_robust_map"] = report.attacked_map

    def on_train_end(self, logs: dict | None = None) -> None:
        """Give the encoder the best weights."""
        load_weights(self.model.encoder, self.weights_file)

    def _best(self) -> float:
        if not self.score_file.is_file():
            return -1.0
        fields = {"held_out_robust_map": int | float}
        return read_object(self.score_file, fields, remedy="Restore it, or begin a new run.")["held_out_robust_map"]
