"""Robust MAP of each refinement of adversarial training on Corel-5K, by queries held out of the training images."""

import dataclasses
import fnmatch
import functools
import sys
import time
from pathlib import Path

import keras
import tyro

from benchmarks.cards import REMEDY, wrong_entries
from benchmarks.markdown import TEMPLATES
from benchmarks.tables.cells import EPSILON_255, SCALES, SETTINGS, Cell, Scale, recipe_of
from benchmarks.tables.figures import kept_share
from benchmarks.tables.run_cell import spread_data, trained
from saat_tf.command_line import ExitCode
from saat_tf.data import DataError, file_split, spread_indices
from saat_tf.evaluation import encode_data, knowledge, machine, score_defense, versions
from saat_tf.files import write_json, write_whole
from saat_tf.metrics import chance_map
from saat_tf.models import HashingModel
from saat_tf.strict_json import read_object
from trainers.callbacks.model_selection import hold_out
from trainers.console.output import quiet_libraries, say, track
from trainers.evaluate import EvaluationOptions, cached_attack
from trainers.recipes.corel5k import Corel5kRecipe
from trainers.recipes.file_data import FileData
from trainers.recipes.identity import identity
from trainers.run_folder.state import RunFolder
from trainers.runs.models import Evaluated
from trainers.runs.training import EVALUATION_BATCH, build_hashing_loss, train_adversarially

EVALUATION_ATTACKS, ATTACK_STEPS = ("mainstay", "auto", "center"), 100
INFERENCE = {"inner_training": "inference", "adversarial_optimizer": "adam", "learning_rate": 2e-3}
WEIGHTED = {**INFERENCE, "adversarial_hashing_weight": 3.0, "adversarial_weight": 3.0}
WEIGHTED_6 = {**INFERENCE, "adversarial_hashing_weight": 6.0, "adversarial_weight": 6.0}
ROBUST = {"robust_weights": "packaged"}
TRIALS: dict[str, dict] = {
    "published": SETTINGS["saat"],
    "inference": INFERENCE,
    "hashed": {**INFERENCE, "adversarial_hashing_weight": 1.0},
    "weighted": WEIGHTED,
    "weighted-awp": {**WEIGHTED, "weight_perturbation": 0.005},
    "weighted-ema": {**WEIGHTED, "ema_momentum": 0.98},
    "weighted-consistency": {**WEIGHTED, "consistency_weight": 3.0},
    "weighted-6": WEIGHTED_6,
    "weighted-6-ema-consistency": {**WEIGHTED_6, "ema_momentum": 0.98, "consistency_weight": 1.0},
    "weighted-decay": {**WEIGHTED, "weight_decay": 5e-4},
    "weighted-6-momentum": {**WEIGHTED_6, "adversarial_optimizer": "sgd", "momentum": 0.9, "learning_rate": 1e-2},
    "weighted-6-chosen": {**WEIGHTED_6, "held_out_queries": 64},
    "weighted-6-free": {**WEIGHTED_6, "inner": "free"},
    "robust": {**WEIGHTED_6, **ROBUST},
    "robust-head": {**WEIGHTED_6, **ROBUST, "head_epochs": 2},
    "robust-head-slow": {**WEIGHTED_6, **ROBUST, "head_epochs": 2, "backbone_rate": 0.1},
    "robust-head-slow-long": {**WEIGHTED_6, **ROBUST, "head_epochs": 2, "backbone_rate": 0.1, "epochs": 16},
}
UNDEFENDED = "undefended"
FIGURES = ("clean", "ideal", "worst", *EVALUATION_ATTACKS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefinementOptions:
    """Train SAAT from one undefended model by several sets of options, and attack each.

    Command: python -m benchmarks.refinements --data-dir ../shared/data/corel5k
    The scale is that of `benchmarks.tables`, whose undefended model all start from. The queries are training images
    that the tables' scale leaves out: no query of the test is looked at. Called again, it makes what is missing.
    """

    data_dir: Path
    """Corel-5K in the list format."""
    out: Path = Path("docs/results/refinements.json")
    """Where the figures go."""
    runs_dir: Path = Path("runs/tables/small")
    """Where models and attacked codes go; the undefended model of the tables is taken from there if it is."""
    only: tuple[str, ...] = ("*",)
    """Make these trials alone, by name or pattern."""
    seed: int = 0
    """Seed of the undefended model and of the training."""


def main(options: RefinementOptions) -> int:
    """Make what is missing, and print the table; return the exit code: 0, or 2 where options or data are refused."""
    quiet_libraries()
    scale = SCALES["small"]
    with ExitCode() as outcome:
        names = [name for name in (UNDEFENDED, *TRIALS) if any(fnmatch.fnmatch(name, p) for p in options.only)]
        if not names:
            raise DataError(f"--only must match one of {', '.join((UNDEFENDED, *TRIALS))}. Received: {options.only}.")
        card = read_figures(options.out, scale, options.seed)
        for name in names:
            if name not in card["trials"]:
                say(f"{name}: {TRIALS.get(name, {})}")
                card["trials"][name] = measure(name, scale, options)
                data = held_out_data(options.data_dir, scale)
                about = {"chance_map": chance_map(data.test.labels, data.database.labels)}
                write_json(options.out, {**card, **about, "versions": versions(), "machine": machine()})
    if outcome.code:
        return outcome.code
    print(markdown(read_figures(options.out, scale, options.seed)))
    return 0


def read_figures(file: Path, scale: Scale, seed: int) -> dict:
    """Return what has been measured so far.

    Raises:
        DataError: the file is damaged, or contains figures of another scale or seed.
    """
    read = ("image_size", "num_train", "num_queries", "pretrain_epochs", "epochs")
    of_scale = {name: getattr(scale, name) for name in read}
    setting = {**of_scale, "seed": seed, "attacks": list(EVALUATION_ATTACKS), "attack_steps": ATTACK_STEPS}
    if not file.is_file():
        return {"setting": setting, "trials": {}}
    card = read_object(file, {"setting": dict, "trials": dict}, remedy=REMEDY)
    if wrong := wrong_entries(card["trials"], {"options": dict, **dict.fromkeys(FIGURES, int | float)}):
        raise DataError(f"{file}: {', '.join(wrong)} lack figures. {REMEDY}")
    if card["setting"] != setting:
        raise DataError(f"{file}: figures of other settings. Choose another --out, or move it.")
    changed = [n for n, row in card["trials"].items() if n in TRIALS and row["options"] != TRIALS[n]]
    if changed:
        raise DataError(f"{file}: {', '.join(changed)} had other options. Remove them from the file.")
    return card


@functools.lru_cache(maxsize=1)
def held_out_data(data_dir: Path, scale: Scale) -> FileData:
    """Return the tables' data with queries from the training images that the tables leave out."""
    every = spread_data(data_dir, dataclasses.replace(scale, num_train=10**9))
    data = spread_data(data_dir, scale)
    used = {str(path) for path in data.lists.train.paths}
    unused = [i for i, path in enumerate(every.lists.train.paths) if str(path) not in used]
    held_out = every.lists.train.take([unused[i] for i in spread_indices(len(unused), scale.num_queries)])
    queries = {str(path) for path in held_out.paths}
    database = data.lists.database
    rest = database.take([i for i, path in enumerate(database.paths) if str(path) not in queries])
    test, others = (file_split(images, scale.image_size, scale.image_size) for images in (held_out, rest))
    lists = dataclasses.replace(data.lists, test=held_out, database=rest)
    return dataclasses.replace(data, test=test, database=others, lists=lists)


def measure(name: str, scale: Scale, options: RefinementOptions) -> dict:
    """Train by the options of one trial, attack the held-out queries, and return its figures."""
    started = time.perf_counter()
    data = held_out_data(options.data_dir, scale)
    undefended = Cell(defense="none", seed=options.seed)
    encoder = trained(undefended, scale, spread_data(options.data_dir, scale), options.data_dir, options.runs_dir)
    folder = options.runs_dir / f"refinement-{name}-seed{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    if name in TRIALS:
        recipe = dataclasses.replace(recipe_of(undefended, scale, options.data_dir), **TRIALS[name])
        train(recipe, data, encoder, folder)
    encoded = encode_data(encoder, data, EVALUATION_BATCH, track)
    model = Evaluated("saat" if name in TRIALS else "none", encoder, encoded, knowledge(encoded, data))
    about = EvaluationOptions(run_dir=folder, seed=options.seed)
    attacked = [
        cached_attack(about, model, model, attack, data, EPSILON_255, ATTACK_STEPS) for attack in EVALUATION_ATTACKS
    ]
    scores = score_defense(encoded, attacked, data, epsilon_255=EPSILON_255, top_k=Corel5kRecipe.top_k)
    return {
        "options": TRIALS.get(name, {}),
        "clean": scores.clean.map,
        "ideal": scores.ideal.map,
        **{one.attacked.attack: one.score.map for one in scores.attacks},
        "worst": scores.worst.map,
        "worst_interval": list(scores.worst.interval),
        "seconds": round(time.perf_counter() - started, 1),
    }


def train(recipe: Corel5kRecipe, data: FileData, encoder: HashingModel, folder: Path) -> None:
    """Train the encoder by a recipe, or give it the weights of a finished training."""
    file = folder / "model.weights.h5"
    if file.is_file():
        encoder.load_weights(file)
        return
    keras.utils.set_random_seed(recipe.seed)
    shown, held_out = hold_out(data, recipe.held_out_queries)
    hashing_loss = build_hashing_loss(recipe, shown.train.labels.shape[1])
    train_adversarially(recipe, shown, encoder, hashing_loss, RunFolder(folder, identity(data)), held_out=held_out)
    write_whole(file, encoder.save_weights)


def markdown(card: dict) -> str:
    """Return the figures as a table, the kept share by the worst case."""
    return TEMPLATES.get_template("refinements.md.j2").render(card=card, kept_share=kept_share)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(RefinementOptions)))
