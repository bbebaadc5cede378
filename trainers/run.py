"""A run from recipe to card: hashing pre-training, SAAT, evaluation of both models, and a folder that holds it all."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from saat_tf.attacks import PGD, mainstay_attack
from saat_tf.codes import check_packable
from saat_tf.data import RetrievalData
from saat_tf.evaluation import (
    attacked_queries,
    evaluate,
    machine,
    peak_rss_mb,
    plot_maps,
    plot_queries,
    results,
    versions,
)
from saat_tf.files import write_json, write_whole
from saat_tf.models import HashingModel
from saat_tf.threat_model import ThreatModel, from_255
from trainers.console import CONSOLE, DEFENSES, quiet_libraries, result_table, say, track
from trainers.recipe import Recipe
from trainers.training import EVALUATION_BATCH, build_encoder, pretrain, train_adversarially

USAGE_ERROR = 2
EVALUATION_STEP_255 = 1
SHOWN_QUERIES = 3


def main(recipe: Recipe, name: str, load: Callable[[], RetrievalData]) -> int:
    """Run a recipe; return the exit code: 0, or 2 where options or data are at fault, before any training.

    Args:
        recipe: what to do.
        name: name of the data set, for the run folder and the card.
        load: reads and checks the data.
    """
    quiet_libraries()
    try:
        attack = check_recipe(recipe)
        run_dir = new_run_dir(recipe, name)
        keras.utils.set_random_seed(recipe.seed)
        data = load()
        encoder = build_encoder(recipe)
        run_dir.mkdir(parents=True)
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    run(recipe, data, encoder, attack, run_dir)
    return 0


def check_recipe(recipe: Recipe) -> PGD:
    """Check the options before anything else happens; return the attack of the evaluation.

    Raises:
        ValueError: an option is out of its range; the message names it.
    """
    check_packable(recipe.bits)
    attack = mainstay_attack(
        ThreatModel.from_255(recipe.epsilon_255),
        step_size=from_255(EVALUATION_STEP_255),
        num_steps=recipe.attack_steps,
    )
    if from_255(recipe.step_255) == 0:
        raise ValueError(f"--step-255 must be above 0. Received: {recipe.step_255}.")
    for option in ("image_size", "batch_size", "pretrain_epochs", "epochs", "num_steps", "top_k"):
        if getattr(recipe, option) < 1:
            raise ValueError(f"--{option.replace('_', '-')} must be at least 1. Received: {getattr(recipe, option)}.")
    for option in ("pretrain_learning_rate", "learning_rate"):
        if not getattr(recipe, option) > 0:
            raise ValueError(f"--{option.replace('_', '-')} must be above 0. Received: {getattr(recipe, option)}.")
    for option in ("adversarial_weight", "quantization_weight"):
        if not getattr(recipe, option) >= 0:
            raise ValueError(f"--{option.replace('_', '-')} must be at least 0. Received: {getattr(recipe, option)}.")
    if recipe.limit_train is not None and recipe.limit_train < 1:
        raise ValueError(f"--limit-train must be at least 1. Received: {recipe.limit_train}.")
    if recipe.pretrained and recipe.backbone != "efficientnet_lite0":
        raise ValueError(
            f"--pretrained needs --backbone efficientnet_lite0. Received: {recipe.backbone}. "
            "Add --no-pretrained to train it from random weights."
        )
    return attack


def new_run_dir(recipe: Recipe, name: str) -> Path:
    """Return where the run goes.

    Raises:
        FileExistsError: it exists already; a run is never overwritten.
    """
    run_dir = recipe.run_dir or Path("runs") / f"{name}-{recipe.bits}bits-{time.strftime('%Y%m%d-%H%M%S')}"
    if run_dir.exists():
        raise FileExistsError(f"{run_dir} exists, and a run is never overwritten. Choose another --run-dir.")
    return run_dir


def run(recipe: Recipe, data: RetrievalData, encoder: HashingModel, attack: PGD, run_dir: Path) -> None:
    """Train, evaluate and write everything into `run_dir`."""
    (run_dir / "checkpoints").mkdir()
    config = json.loads(json.dumps(dataclasses.asdict(recipe), default=str))
    write_json(run_dir / "config.json", config)
    say(
        f"{data.name}: {len(data.train)} training images, {len(data.database)} in the database, "
        f"{len(data.test)} queries, {len(data.class_names)} labels. Run folder: {run_dir}"
    )
    seconds = {"pretrain": 0.0, "adversarial": 0.0, "evaluate": 0.0}
    reports = {}
    phases = (
        ("none", "pretrain", pretrain, "hashing.keras"),
        ("saat", "adversarial", train_adversarially, "robust.keras"),
    )
    for defense, phase, train, model_file in phases:
        with _timed(seconds, phase):
            train(recipe, data, encoder, run_dir)
        write_whole(run_dir / model_file, encoder.save)
        with _timed(seconds, "evaluate"):
            reports[defense] = evaluate(
                encoder,
                data,
                attack,
                top_k=recipe.top_k,
                batch_size=EVALUATION_BATCH,
                seed=recipe.seed,
                keep_images=SHOWN_QUERIES,
                track=track,
            )
    card = {
        "dataset": data.name,
        "backbone": recipe.backbone,
        "code_length": recipe.bits,
        "hashing_loss": recipe.hashing_loss,
        "epsilon_255": recipe.epsilon_255,
        "chance_map": reports["none"].chance_map,
        "config": config,
        "versions": versions(),
        "machine": machine(),
        "seconds": {phase: round(spent, 1) for phase, spent in seconds.items()},
        "peak_rss_mb": round(peak_rss_mb()),
        "results": [
            row for defense, report in reports.items() for row in results(report, defense=defense, top_k=recipe.top_k)
        ],
    }
    write_json(run_dir / "card.json", card)
    plot_maps(card, run_dir / "maps.png")
    queries = [
        shown
        for i in range(min(SHOWN_QUERIES, len(data.test)))
        for defense, report in reports.items()
        for shown in attacked_queries(DEFENSES[defense], report, data, [i])
    ]
    plot_queries(queries, attack.threat_model.epsilon, run_dir / "queries.png")
    CONSOLE.print(result_table(card))
    say(f"Card, models, logs and pictures: {run_dir}")


@contextlib.contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[phase] += time.perf_counter() - started
