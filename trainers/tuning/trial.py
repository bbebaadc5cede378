"""One trial of a sweep: a run from the undefended model on, in a folder of its own, scored on held-out queries."""

import dataclasses
import gc
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import keras
import numpy as np
import tensorflow as tf

from saat_tf.checkpoints import newest_checkpoint
from saat_tf.data import RetrievalData
from saat_tf.evaluation import RetrievalReport, Score, machine, versions
from saat_tf.evaluation.card import result_row
from saat_tf.files import atomic, lock_folder, write_json, write_whole
from saat_tf.losses import HashingLoss
from saat_tf.metrics import average_precisions
from saat_tf.models import HashingModel
from saat_tf.strict_json import read_object, wrong_fields
from saat_tf.text_lists import DataError
from saat_tf.training.checkpointing import NotFiniteError
from trainers.callbacks.model_selection import hold_out
from trainers.console.output import say
from trainers.distributed.strategy import synchronize_batch_norm
from trainers.recipes.identity import identity, options
from trainers.recipes.recipe import Recipe
from trainers.run_folder.models import HASHING, ROBUST
from trainers.run_folder.state import RunFolder
from trainers.runs.evaluation import ATTACK, evaluate_model
from trainers.runs.training import build_encoder, build_hashing_loss, pretrain, train_adversarially

CARD, FAILURE = "card.json", "failure.json"
CARD_FIELDS = {"results": list, "seconds": dict}
ROW_FIELDS = {"defense": str, "attack": str, "value": int | float, "interval": list}
FAILURE_FIELDS = {"cause": str, "reason": str}
REMEDY = "Restore it, or remove the folder, and the trial is done again."


@dataclasses.dataclass(frozen=True)
class TrialRunner:
    """Runner of trials: what they have in common.

    Args:
        recipe: options of all trials.
        data: to train on; its queries are never looked at.
        validation: the held-out queries.
        epsilon_255: radius of the attack on these, in units of 1/255.
        attack_steps: its steps.
        strategy: on which devices.
    """

    recipe: Recipe
    data: RetrievalData
    validation: RetrievalData
    epsilon_255: float
    attack_steps: int
    strategy: tf.distribute.Strategy

    def undefended(self, folder: Path) -> dict:
        """Train and score the model that every trial starts from, and return its card; what is done stays."""
        card = read_card(folder)
        if card is not None:
            return card
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            write_json(folder / "config.json", options(self.recipe))
            encoder, hashing_loss = self._build(self.recipe)
            data, _ = hold_out(self.data, self.recipe.held_out_queries)
            run_folder = RunFolder(folder, identity(self.data))
            pretrain(self.recipe, data, encoder, hashing_loss, run_folder)
            return self._finish(self.recipe, encoder, run_folder, "none", HASHING, {})

    def trial(self, folder: Path, values: Mapping, *, start: Path, epochs: int | None = None) -> dict:
        """Train and score by some values, and return the card; a trial that is done stays, an interrupted one resumes.

        Args:
            folder: of the trial.
            values: options that replace those of the recipe.
            start: folder of the undefended model, or of the trial whose training this one continues.
            epochs: where to end the training, which is that of all the recipe's epochs otherwise.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            card = read_card(folder)
            if card is not None:
                return card
            recipe = dataclasses.replace(self.recipe, **values)
            if newest_checkpoint(folder / "checkpoints")[0] is None:
                _branch(start, folder)
            write_json(folder / "config.json", options(recipe))
            encoder, hashing_loss = self._build(recipe)
            data, held_out = hold_out(self.data, recipe.held_out_queries)
            run_folder = RunFolder(folder, identity(self.data))
            if run_folder.position is not None and run_folder.position.phase == "hashing":
                pretrain(recipe, data, encoder, hashing_loss, run_folder)  # has ended: this brings its variables back
            train_adversarially(recipe, data, encoder, hashing_loss, run_folder, held_out=held_out, until=epochs)
            trained = {"values": dict(values), "epochs": epochs or recipe.epochs, "of_epochs": recipe.epochs}
            return self._finish(recipe, encoder, run_folder, recipe.defense, ROBUST, trained)

    def _build(self, recipe: Recipe) -> tuple[HashingModel, HashingLoss]:
        keras.backend.clear_session()
        gc.collect()  # the trial before
        keras.utils.set_random_seed(recipe.seed)
        with self.strategy.scope():
            encoder = build_encoder(recipe)
            synchronize_batch_norm(encoder)
            return encoder, build_hashing_loss(recipe, self.data.train.labels.shape[1])

    def _finish(
        self,
        recipe: Recipe,
        encoder: HashingModel,
        run_folder: RunFolder,
        defense: str,
        model_file: str,
        about: Mapping,
    ) -> dict:
        write_whole(run_folder.run_dir / model_file, encoder.save)
        attacked = dataclasses.replace(recipe, epsilon_255=self.epsilon_255, attack_steps=self.attack_steps)
        with run_folder.timed("evaluate"):
            report = evaluate_model(attacked, encoder, self.validation)
        seconds = {phase: round(spent, 1) for phase, spent in run_folder.seconds.items()}
        card = {
            "dataset": self.data.name,
            "backbone": recipe.backbone,
            "code_length": recipe.bits,
            "hashing_loss": recipe.hashing_loss,
            "epsilon_255": self.epsilon_255,
            "chance_map": report.chance_map,
            **about,
            "queries": f"{len(self.validation.test)} training images, held out",
            "config": options(recipe),
            "versions": versions(),
            "machine": machine(),
            "seconds": seconds,
            "results": self._rows(report, recipe, defense),
        }
        write_json(run_folder.run_dir / CARD, card)  # last: it marks the trial as finished
        return card

    def _rows(self, report: RetrievalReport, recipe: Recipe, defense: str) -> list[dict]:
        def row(codes: np.ndarray, **setting: Any) -> dict:
            labels, known = self.validation.test.labels, self.validation.database.labels
            values = average_precisions(codes, report.database_codes, labels, known, top_k=recipe.top_k)
            return result_row(Score(codes, values), defense=defense, top_k=recipe.top_k, **setting)

        attacked = {"epsilon_255": self.epsilon_255, "num_steps": self.attack_steps, "seed": recipe.seed}
        return [
            row(report.query_codes, attack="none"),
            row(report.adversarial_codes, attack=ATTACK, **attacked),
        ]


def read_card(folder: Path) -> dict | None:
    """Return the card of a finished trial, or None.

    Raises:
        DataError: it is damaged.
    """
    file = folder / CARD
    if not file.is_file():
        return None
    card = read_object(file, CARD_FIELDS, remedy=REMEDY)
    rows = enumerate(card["results"])
    if wrong := [f"results[{i}]" for i, row in rows if not isinstance(row, dict) or wrong_fields(row, ROW_FIELDS)]:
        raise DataError(f"{file}: {', '.join(wrong)} missing or of another type. {REMEDY}")
    return card


def read_failure(folder: Path) -> dict | None:
    """Return the cause, a reason and the traceback of a trial that failed, or None.

    Raises:
        DataError: the file is damaged.
    """
    file = folder / FAILURE
    return read_object(file, FAILURE_FIELDS, remedy=REMEDY) if file.is_file() else None


def write_failure(folder: Path, error: Exception) -> None:
    """Keep why a trial failed."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(error, NotFiniteError):
        cause, reason = "not finite", f"{str(error).partition('. ')[0]}."
    elif isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        cause, reason = "out of memory", str(error).partition("\n")[0] or "Out of memory."
    else:
        cause, reason = type(error).__name__, str(error).partition("\n")[0] or type(error).__name__
    write_json(folder / FAILURE, {"cause": cause, "reason": reason, "traceback": traceback.format_exc()})


def _branch(start: Path, folder: Path) -> None:
    """Have a folder resume from the newest checkpoint of another run."""
    checkpoint, _ = newest_checkpoint(start / "checkpoints")
    if checkpoint is None:
        raise FileNotFoundError(f"{start / 'checkpoints'}: no whole checkpoint from which {folder.name} could resume.")
    for log in (start / "logs").rglob("events.out.tfevents.*"):
        copy = folder / log.relative_to(start)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, copy)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # damaged ones
    with atomic(folder / "checkpoints") as checkpoints:
        shutil.copytree(checkpoint.folder, checkpoints / checkpoint.folder.name)
        for best in (start / "checkpoints").glob("best.*"):
            shutil.copyfile(best, checkpoints / best.name)


def _locked(folder: Path) -> filelock.BaseFileLock:
    return lock_folder(folder, waiting=lambda: say(f"{folder}: another process works on it. Waiting for it."))
