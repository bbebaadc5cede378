"""One adversarial phase: its seconds, and its model attacked at a few points."""

import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from benchmarks.inner.cells import EPSILON_255, TOP_K, points
from saat_tf.data import RetrievalData
from saat_tf.evaluation import encode_data, knowledge, score_defense
from saat_tf.evaluation.scores import DefenseScores
from saat_tf.files import write_whole
from saat_tf.models import HashingModel
from trainers.console.output import track
from trainers.evaluate import EvaluationOptions, cached_attack
from trainers.recipes.recipe import Recipe
from trainers.runs.models import Evaluated
from trainers.runs.training import EVALUATION_BATCH, build_encoder, build_hashing_loss, pretrain, train_adversarially

ON_THE_WAY, AT_THE_END = ("mainstay",), ("mainstay", "auto")
ATTACK_STEPS = 100


class Snapshots(keras.callbacks.Callback):
    """Keep the encoder's weights after some epochs, and the seconds of training that led there.

    Seconds are those from batch to batch; the first, which builds the graph, counts as much as the median of the
    others. Core seconds are counted beside those of the clock, which other work on the machine stretches.

    Args:
        epochs: after which.
    """

    def __init__(self, epochs: list[int]) -> None:
        super().__init__()
        self.epochs = epochs
        self.kept: list[dict] = []
        self.times: list[tuple[float, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Begin to count."""
        self.since = _clocks()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count a step."""
        now = _clocks()
        self.times.append((now[0] - self.since[0], now[1] - self.since[1]))
        self.since = now

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keep the weights where it is time."""
        if epoch + 1 in self.epochs:
            weights = [variable.numpy() for variable in self.model.encoder.variables]
            seconds, core_seconds = (steady_sum(times) for times in zip(*self.times, strict=True))
            self.kept.append({"epoch": epoch + 1, "seconds": seconds, "core_seconds": core_seconds, "weights": weights})


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def steady_sum(times: Sequence[float]) -> float:
    """Return the sum of the times, the first replaced by the median of the others.

    Example:
        >>> steady_sum([60.0, 1.0, 2.0, 3.0])
        8.0
    """
    return sum(times[1:]) + statistics.median(times[1:] or times)


def undefended_model(recipe: Recipe, data: RetrievalData, folder: Path) -> HashingModel:
    """Return the model that all start from, trained now if it is not on disk."""
    keras.utils.set_random_seed(recipe.seed)
    encoder, file = build_encoder(recipe), folder / "undefended.weights.h5"
    if file.is_file():
        encoder.load_weights(file)
    else:
        pretrain(recipe, data, encoder, build_hashing_loss(recipe, data.train.labels.shape[1]), None)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, encoder.save_weights)
    return encoder


def measure(
    recipe: Recipe, undefended: Recipe, data: RetrievalData, folder: Path, *, attack_steps: int = ATTACK_STEPS
) -> dict:
    """Train by a recipe from the undefended model of `folder`, and attack the held-out queries at its points."""
    encoder = undefended_model(undefended, data, folder)
    snapshots = Snapshots(points(recipe))
    keras.utils.set_random_seed(recipe.seed)
    hashing_loss = build_hashing_loss(recipe, data.train.labels.shape[1])
    train_adversarially(recipe, data, encoder, hashing_loss, None, callbacks=[snapshots])
    codes = folder / f"codes-{recipe.inner}-{recipe.epochs}"
    shutil.rmtree(codes, ignore_errors=True)  # of an interrupted cell
    curve = []
    for kept in snapshots.kept:
        for variable, value in zip(encoder.variables, kept.pop("weights"), strict=True):
            variable.assign(value)
        attacks = AT_THE_END if kept is snapshots.kept[-1] else ON_THE_WAY
        scores = attacked(encoder, data, codes / f"epoch{kept['epoch']}", attacks, attack_steps)
        curve.append({**rounded(kept), "clean": scores.clean.map, "mainstay": scores.attacks[0].score.map})
    return {"curve": curve, **figures(scores)}


def measure_undefended(recipe: Recipe, data: RetrievalData, folder: Path, *, attack_steps: int = ATTACK_STEPS) -> dict:
    """Attack the held-out queries of the undefended model."""
    encoder = undefended_model(recipe, data, folder)
    return figures(attacked(encoder, data, folder / "codes-undefended", AT_THE_END, attack_steps))


def attacked(
    encoder: HashingModel, data: RetrievalData, folder: Path, attacks: tuple[str, ...], steps: int
) -> DefenseScores:
    """Attack the queries, and score them."""
    encoded = encode_data(encoder, data, EVALUATION_BATCH, track)
    model = Evaluated("saat", encoder, encoded, knowledge(encoded, data))
    about = EvaluationOptions(run_dir=folder)
    found = [cached_attack(about, model, model, name, data, EPSILON_255, steps) for name in attacks]
    return score_defense(encoded, found, data, epsilon_255=EPSILON_255, top_k=TOP_K)


def figures(scores: DefenseScores) -> dict:
    """Return what a card keeps of the last model; AP of each query, so that differences are of pairs."""
    by_attack = {one.attacked.attack: one.score.map for one in scores.attacks}
    worst = scores.worst
    return {
        "clean": scores.clean.map,
        "ideal": scores.ideal.map,
        **by_attack,
        "worst": worst.map,
        "worst_interval": list(worst.interval),
        "worst_average_precisions": np.round(worst.average_precisions, 6).tolist(),
    }


def rounded(kept: dict) -> dict:
    """Round the seconds."""
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in kept.items()}
