"""Search the options of adversarial training: `python -m trainers.sweep --study-dir DIR scenes`."""

import contextlib
import dataclasses
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import grpc
import keras_tuner as kt
import tensorflow as tf
import tyro

from saat_tf.command_line import FAILED, INTERRUPTED, ExitCode
from saat_tf.files import lock_folder
from trainers.callbacks.model_selection import hold_out, take_out
from trainers.console.output import CONSOLE, quiet_libraries, say, say_devices
from trainers.distributed.strategy import build_strategy, check_replicas
from trainers.recipes.data_sets import DATA_SETS
from trainers.recipes.defense_options import RECIPES, asked_recipe, named_recipe
from trainers.recipes.identity import identity, options
from trainers.recipes.option_checks import check_recipe
from trainers.recipes.recipe import Recipe
from trainers.tuning.search_algorithms import FAILURES, ResumableOracle, TunerName, exhausted
from trainers.tuning.search_space import Dimension, default_space, read_space
from trainers.tuning.study import Study, best_of
from trainers.tuning.study_report import command_of, plot_pareto, study_table
from trainers.tuning.trial import TrialRunner
from trainers.tuning.tuner import StudyTuner, check_port, chief_listens, role_of

ADVICE = {
    "not finite": "Lower the learning rates of --space, in another --study-dir.",
    "out of memory": "Lower --batch-size or --image-size, in another --study-dir, or run fewer workers on one device.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Search the options of adversarial training for the highest robust MAP, with the clean MAP beside it.

    Command: python -m trainers.sweep --study-dir runs/sweep --max-trials 20 scenes --epochs 5
    The options of the sweep come first, then the data set with the options of its trainer (those of all trials).

    The undefended model is trained once; each trial starts from it and is a run folder of its own. Trials are scored by
    training images that are kept out of all training, under an attack that is the same for all; queries of the test are
    not looked at. Called again, it resumes where it was interrupted, also within a trial. Several processes share a
    sweep as KerasTuner's chief and workers: docs/scale.md.
    """

    study_dir: Path
    """Folder of the sweep: made, or resumed where it was begun by the same options."""
    tuner: TunerName = "random"
    """random: each trial drawn anew; hyperband: many trials for a few epochs, the best of them trained on, up to
    --epochs; grid: all combinations; bayesian: by a Gaussian process of the trials before, after a few drawn ones."""
    max_trials: int | None = None
    """End after so many trials; a later call may raise it. Default: 20 for random and bayesian, and all of them for
    grid and hyperband."""
    space: tuple[str, ...] = ()
    """What to try, one or more of NAME=A,B,C, NAME=LOW..HIGH and NAME=LOW..HIGH:log, where NAME is an option of
    adversarial training. grid takes of a range both ends and the middle. Options that are not named keep the recipe's
    value. Default: epsilon-255=4..16 step-255=0.5..4:log num-steps=3..10 adversarial-weight=0.3..5:log
    quantization-weight=1e-5..1e-2:log, and learning-rate from a tenth to three times the recipe's, :log."""
    evaluation_epsilon_255: float | None = None
    """Radius of the attack that scores all trials, in units of 1/255, whatever they train with. Default: the recipe's
    --epsilon-255."""
    evaluation_steps: int = 50
    """Steps of that attack, each of 1/255."""
    validation_queries: int = 200
    """Training images to keep out of all training and to score trials by; MAP of few queries is a lottery."""
    retry_failed: bool = False
    """Do trials that failed once more, after their cause was removed."""


def read_command_line(arguments: Sequence[str] | None = None) -> tuple[SweepOptions, Recipe]:
    """Read the options of the sweep and the recipe of its trials from the command line."""
    name = asked_recipe(arguments)
    defaults = {
        data_set: named_recipe(kind, name) if name in RECIPES else kind() for data_set, (kind, _) in DATA_SETS.items()
    }
    recipes = tyro.extras.subcommand_type_from_defaults(defaults, prefix_names=False)

    def both(options: SweepOptions, recipe: Recipe) -> tuple[SweepOptions, Recipe]:
        return options, recipe

    both.__annotations__ = {
        "options": Annotated[SweepOptions, tyro.conf.arg(name="")],
        "recipe": Annotated[recipes, tyro.conf.arg(name="")],
    }
    return tyro.cli(both, args=arguments, description=inspect.getdoc(SweepOptions))


def main(sweep: SweepOptions, recipe: Recipe) -> int:
    """Run a sweep or its part in one (see `search`); return the exit code."""
    with contextlib.ExitStack() as locks:
        return search(sweep, recipe, locks)


def search(sweep: SweepOptions, recipe: Recipe, locks: contextlib.ExitStack) -> int:
    """Run a sweep or its part in one, and keep the study's lock in `locks`; return the exit code.

    It is 0, also where the space has fewer values than trials were asked for, which is said; 1 where no trial was
    completed, failures ended the sweep, or the disk or the chief failed; 2 where options or data are refused; 130
    where it was interrupted.
    """
    quiet_libraries()
    logging.getLogger("tensorflow").setLevel(
        logging.ERROR
    )  # each trial traces its functions anew, and it warns of that
    data_set, load = next((name, load) for name, (kind, load) in DATA_SETS.items() if kind is type(recipe))
    with ExitCode() as outcome:
        role = role_of(os.environ)
        space = check(sweep, recipe)
        strategy = build_strategy(recipe.devices)
        check_replicas(recipe, strategy)
        say_devices()
        if role == "chief" and tf.config.get_visible_devices("GPU"):
            say(
                "The chief trains the undefended model on a GPU, and keeps what memory that took. Where workers need "
                "all of it, give the chief CUDA_VISIBLE_DEVICES=-1."
            )
        loaded = load(recipe)
        if not 0 < sweep.validation_queries < len(loaded.train):
            raise ValueError(
                f"--validation-queries must be above 0 and leave some of {len(loaded.train)} training images. "
                f"Received: {sweep.validation_queries}."
            )
        data, validation = take_out(loaded, sweep.validation_queries)
        hold_out(data, recipe.held_out_queries)  # while it can still be refused
        runner = TrialRunner(
            recipe, data, validation, evaluation_epsilon(sweep, recipe), sweep.evaluation_steps, strategy
        )
        study = Study(sweep.study_dir)
        begun_with = {
            "sweep": data_set,
            "data": str(identity(data)["data"])[:16],
            **{name: getattr(sweep, name) for name in ("tuner", "evaluation_steps", "validation_queries")},
            "space": [str(dimension) for dimension in space],
            "evaluation_epsilon_255": runner.epsilon_255,
            **options(recipe),
        }
        if role == "worker":
            if not study.wait(begun_with, lambda: chief_listens(os.environ)):
                say(f"The sweep in {study.folder} has ended. For more trials, start the chief first.")
                return 0
        else:
            study.begin(begun_with)
            locks.enter_context(lock_folder(study.folder))
        tuner = StudyTuner(runner, study, sweep.tuner, sweep.max_trials, sweep.retry_failed, space)
    if outcome.code:
        return outcome.code
    try:
        if role == "worker":
            tuner.search()
            say("The sweep has ended for this worker.")
            return 0
        runner.undefended(study.undefended)
        study.write(study.results(tuner.oracle.trials.values()), over=False)
        if role == "chief":
            check_port(os.environ)
        tuner.search()
    except KeyboardInterrupt:
        print("Interrupted. The same command resumes.", file=sys.stderr)
        return INTERRUPTED
    except grpc.RpcError as error:
        print(
            f"error: the chief does not answer ({error.code().name}). Start it again by its command.",
            file=sys.stderr,
        )
        return FAILED
    except (OSError, kt.errors.FatalError) as error:
        print(
            f"error: {error}. The sweep cannot continue. When that is repaired, the same command resumes it.",
            file=sys.stderr,
        )
        return FAILED
    return finish(study, tuner.oracle, recipe, data_set)


def evaluation_epsilon(sweep: SweepOptions, recipe: Recipe) -> float:
    """Return the radius of the attack that scores the trials, in units of 1/255."""
    return recipe.epsilon_255 if sweep.evaluation_epsilon_255 is None else sweep.evaluation_epsilon_255


def check(sweep: SweepOptions, recipe: Recipe) -> tuple[Dimension, ...]:
    """Check the options before anything else happens, and return the search space.

    Raises:
        ValueError: an option is out of its range, or has no meaning in a sweep.
    """
    check_recipe(recipe)
    if recipe.run_dir or recipe.resume or recipe.allow_changes:
        raise ValueError(
            "--run-dir, --resume and --allow-changes are of single runs. A sweep has --study-dir, and resumes by the "
            "same command."
        )
    epsilon_255 = evaluation_epsilon(sweep, recipe)
    if not 0 < epsilon_255 <= 255:
        raise ValueError(f"--evaluation-epsilon-255 must be above 0 and at most 255. Received: {epsilon_255}.")
    for name in ("max_trials", "evaluation_steps"):
        value = getattr(sweep, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1. Received: {value}.")
    return read_space(sweep.space or default_space(recipe), recipe)


def finish(study: Study, oracle: ResumableOracle, recipe: Recipe, data_set: str) -> int:
    """Write and show the results; return the exit code."""
    results = study.results(oracle.trials.values())
    content = study.write(results, over=True)
    plot_pareto(content, results, study.folder / "pareto.png")
    CONSOLE.print(study_table(content, results))
    for result in results:
        if result.reason:
            say(f"Trial {result.trial} failed: {result.reason}")
    if (why := exhausted(oracle)) is not None:
        say(why)
    say(f"Table, picture and all runs: {study.folder}")
    best, cause = best_of(results), oracle.common_cause()
    if best is not None:
        say(
            "To train as the most robust trial did, on all training images, and to attack the queries of the test at "
            f"the same radius:\n  {command_of(recipe, data_set, best)} --run-dir RUN\n  python -m trainers.evaluate "
            f"--run-dir RUN --epsilon-255 {content['epsilon_255']:g}"
        )
    if cause is not None:
        advice = ADVICE.get(cause, f"See {study.trial(oracle.end_order[-1])}/failure.json.")
        print(
            f"error: the last {FAILURES} trials failed for one cause, {cause}, so no more were begun. {advice} When "
            "the cause is removed, the same command resumes with --retry-failed.",
            file=sys.stderr,
        )
    elif best is None:
        print("error: no trial was completed. The table says why.", file=sys.stderr)
    return 0 if best is not None and cause is None else FAILED


if __name__ == "__main__":
    sys.exit(main(*read_command_line()))
