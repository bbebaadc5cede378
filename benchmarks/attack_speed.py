"""Measure attacks in an evaluation: `python -m benchmarks.attack_speed`.

Claims: an attack of 100 steps is faster on a model whose batch norms are folded, and faster again where it stops early,
with a MAP within 0.005. Baseline: the plain loop, every step on the model as it was trained. The three ways take turns
on the same queries with the same seed, on an undefended and on a robust model. Without --run-dir a run on drawn scenes
is trained first, and kept for the next time; the figures of another run go to docs/results/attack_speed_DATASET.json.
"""

import dataclasses
import functools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.timing import ROOT, figure, in_turns, show, write_result
from saat_tf.attacks import Attack, build_attack
from saat_tf.data import RetrievalData, Split
from saat_tf.evaluation import attack_split
from saat_tf.evaluation.attack_runner import attack_runner, every_step
from saat_tf.evaluation.evaluate import AttackedSplit
from saat_tf.metrics import average_precisions
from saat_tf.threat_model import from_255
from trainers.console.output import quiet_libraries, say
from trainers.recipes.data_sets import load_data_of
from trainers.recipes.scenes import ScenesRecipe, load
from trainers.run_folder.finished_run import read_card
from trainers.runs.models import Evaluated, defenses_of_run, load_evaluated
from trainers.runs.run import main as train
from trainers.runs.training import EVALUATION_BATCH

PLAIN, FOLDED, EARLY = "plain loop", "folded", "folded, early stop"
SCENES_RUN, QUICK_SCENES_RUN = ROOT / "runs/attack-speed", ROOT / "runs/bench-quick/attack-speed"
QUICK_RECIPE: dict[str, Any] = {
    "num_train": 64,
    "num_queries": 8,
    "pretrain_epochs": 1,
    "epochs": 1,
    "bits": 16,
    "attack_steps": 2,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackSpeedOptions:
    """Time attacks as an evaluation runs them: every step on the trained model, folded, and stopping early.

    Command: python -m benchmarks.attack_speed
    """

    run_dir: Path | None = None
    """Folder of a finished run with an undefended and a robust model. Default: drawn scenes, trained first."""
    data_dir: Path | None = None
    """Where the images of that run are now, if not where it found them."""
    attacks: tuple[str, ...] = ("mainstay", "auto", "center")
    """Names of attacks."""
    defenses: tuple[str, ...] | None = None
    """Which models of the run, in this order: none is the undefended one. Default: that and the run's own defense."""
    num_steps: int = 100
    """Steps of each attack."""
    num_queries: int = 128
    """Attack the first so many queries."""
    epsilon_255: float = 8.0
    """Radius of the ball in units of 1/255."""
    quick: bool = False
    """A few steps on a tiny model, to see that it works; figures go to runs/bench-quick."""


def main(options: AttackSpeedOptions) -> int:
    """Measure as `options` say, print and write the figures; return the exit code."""
    quiet_libraries()
    run_dir = options.run_dir
    if run_dir is None:
        run_dir = QUICK_SCENES_RUN if options.quick else SCENES_RUN
        if not (run_dir / "card.json").is_file():
            scenes = ScenesRecipe(run_dir=run_dir, **(QUICK_RECIPE if options.quick else {}))
            if failed := train(scenes, "scenes", lambda: load(scenes)):
                return failed
    recipe, data = load_data_of(read_card(run_dir), options.data_dir)
    data = dataclasses.replace(data, test=first(data.test, options.num_queries))
    steps = 20 if options.quick else options.num_steps
    about = {"dataset": data.name, "backbone": recipe.backbone, "image_size": recipe.image_size}
    setting = {"num_queries": len(data.test), "num_steps": steps, "epsilon_255": options.epsilon_255}
    name, rows = "attack_speed", []
    if options.run_dir is not None:
        about["command"] = f"python -m benchmarks.attack_speed --run-dir RUN --attacks {' '.join(options.attacks)}"
        name = f"{name}_{data.name}"
    for defense in options.defenses or defenses_of_run(run_dir, recipe)[:2]:
        model = load_evaluated(run_dir, defense, data)
        for attack_name in options.attacks:
            say(f"{defense}, {attack_name}")
            attack = build_attack(attack_name, from_255(options.epsilon_255), model.known, num_steps=steps)
            rows += measure(model, attack, data, recipe.top_k)
            show(rows[-3:])
    say(f"{write_result(name, {**about, **setting, 'rows': rows}, quick=options.quick)}")
    return 0


def first(split: Split, count: int) -> Split:
    """Return the first `count` images of a split."""
    return dataclasses.replace(split, labels=split.labels[:count])


def measure(model: Evaluated, attack: Attack, data: RetrievalData, top_k: int) -> list[dict]:
    """Return a row for each way to run one attack on one model: seconds, MAP, and the steps of an image on average."""
    ways = {
        PLAIN: every_step(attack, model.encoder),
        FOLDED: attack_runner(attack, model.encoder),
        EARLY: attack_runner(attack, model.encoder, early_stop=True),
    }
    results: dict[str, AttackedSplit] = {}
    processor: dict[str, float] = {}
    few = first(data.test, 2)

    def run(name: str) -> None:
        started = time.process_time()
        results[name] = attack_split(
            model.encoder, data.test, attack, data.test.labels, batch_size=EVALUATION_BATCH, run_attack=ways[name]
        )
        processor[name] = time.process_time() - started

    for run_attack in ways.values():  # what is traced for two images is traced for all
        attack_split(model.encoder, few, attack, few.labels, run_attack=run_attack)
    timings = in_turns({name: functools.partial(run, name) for name in ways}, repeats=1, warm_up=0)
    precisions = {
        name: average_precisions(
            result.codes, model.encoded.database, data.test.labels, data.database.labels, top_k=top_k
        )
        for name, result in results.items()
    }
    rows = []
    for name, result in results.items():
        steps = {} if result.steps is None else {"mean_steps": round(float(np.mean(result.steps)), 1)}
        difference = precisions[name] - precisions[PLAIN]
        row = timings[name].row(
            f"{model.defense}, {attack.name}, {name}",
            baseline=timings[PLAIN],
            model=model.defense,
            attack=attack.name,
            way=name,
            processor_s=figure(processor[name]),
            processor_ratio=figure(processor[PLAIN] / processor[name]),
            map=round(float(precisions[name].mean()), 4),
            map_difference=round(float(difference.mean()), 4),
            standard_error=round(float(difference.std() / np.sqrt(len(difference))), 4),
            **steps,
        )
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main(tyro.cli(AttackSpeedOptions)))
