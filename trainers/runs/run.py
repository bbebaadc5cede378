"""A run from recipe to card: hashing pre-training, a defense, evaluation of both models, one folder."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from saat_tf.command_line import FAILED, INTERRUPTED, USAGE_ERROR, ExitCode
from saat_tf.data import DataError, RetrievalData, write_image_lists
from saat_tf.evaluation import (
    RetrievalReport,
    attacked_queries,
    machine,
    peak_rss_mb,
    plot_maps,
    plot_queries,
    results,
    versions,
)
from saat_tf.files import lock_folder, write_json, write_text, write_whole
from saat_tf.models import HashingModel
from saat_tf.models.image_model import ImageModel
from saat_tf.threat_model import from_255
from saat_tf.training.checkpointing import NotFiniteError
from saat_tf.training.workers import Workers
from trainers.callbacks.catastrophic_overfitting import CatastrophicOverfittingError
from trainers.callbacks.model_selection import hold_out
from trainers.console.output import CONSOLE, DEFENSES, quiet_libraries, result_table, say, say_devices
from trainers.distributed.cluster import Cluster, find_cluster
from trainers.distributed.coordination import leave, lost_worker
from trainers.distributed.rendezvous import rendezvous
from trainers.distributed.strategy import build_strategy, check_replicas, synchronize_batch_norm
from trainers.recipes.file_data import FileData
from trainers.recipes.identity import identity, options
from trainers.recipes.option_checks import check_recipe
from trainers.recipes.recipe import Recipe
from trainers.recipes.run_options import RunOptions
from trainers.run_folder.models import load_weights
from trainers.run_folder.state import RunFolder
from trainers.runs.data_checks import check_data
from trainers.runs.evaluation import evaluate_model
from trainers.runs.resume import check_phase, enter
from trainers.runs.training import build_encoder, build_hashing_loss, phases
from trainers.runs.worker_run import run_worker

SHOWN_QUERIES = 3


@dataclasses.dataclass(frozen=True)
class Program:
    """What is particular to a kind of run.

    Args:
        build: (recipe, data) -> the model to train; raises ValueError where data or weights do not allow it.
        identity: data -> what tells that a checkpoint belongs to it, under "data" a SHA-256.
        phases: recipe -> names of the phases.
        run: (recipe, data, model, run folder): trains, evaluates and writes.
        run_worker: (recipe, data, model): the same for a worker that is not the chief.
    """

    build: Callable[..., ImageModel]
    identity: Callable[..., dict[str, str | None]]
    phases: Callable[..., Sequence[str]]
    run: Callable[..., None]
    run_worker: Callable[..., None]


def main(recipe: RunOptions, name: str, load: Callable[[], Any], program: Program | None = None) -> int:
    """Run a recipe; return the exit code.

    It is 0; 2 where options or data are refused, before any training; 1 where the disk fails, above all for lack of
    room, where a loss is no number any more, or where another worker is gone; and 130 where the run was interrupted.
    After 1 and 130 it resumes by `--resume`.

    Args:
        recipe: what to do.
        name: name of the data set, for the run folder and the card.
        load: reads and checks the data.
        program: the kind of run; that of hashing models by default.
    """
    program = program or hashing()
    quiet_libraries()
    with ExitCode() as outcome:
        check_recipe(recipe)
        cluster = find_cluster(os.environ)
        run_dir = rendezvous(cluster, options(recipe), lambda: enter(recipe, name), recipe.worker_timeout)
    if outcome.code:
        return outcome.code
    try:
        with contextlib.ExitStack() as locks:
            code = 0 if run_dir is None else start(recipe, load, run_dir, cluster, program, locks)
    except tf.errors.OpError as error:
        gone = lost_worker(error, cluster)
        if gone is None:
            raise
        print(
            f"error: {gone}. To resume: start all workers by the same command with --resume --run-dir {run_dir}",
            file=sys.stderr,
        )
        code = FAILED
    if cluster is not None:
        leave(code)
    return code


def start(
    recipe: RunOptions,
    load: Callable[[], Any],
    run_dir: Path,
    cluster: Cluster | None,
    program: Program,
    locks: contextlib.ExitStack,
) -> int:
    """Do the run in its folder, whose lock `locks` keeps, alone or as a worker of a cluster; return the exit code."""
    remedy = f"the same command with --resume --run-dir {run_dir}"
    with ExitCode() as outcome:
        strategy = build_strategy(recipe.devices, cluster)  # before TensorFlow begins to run
        check_replicas(recipe, strategy)
        say_devices()
        keras.utils.set_random_seed(recipe.seed)
        data = load()
        with strategy.scope():
            model = program.build(recipe, data)
        synchronize_batch_norm(model)
        workers = Workers(strategy)
        own_identity = program.identity(data)
        workers.check_same(str(own_identity["data"]))
        if workers.is_chief:
            run_dir.mkdir(parents=True, exist_ok=recipe.resume)
            locks.enter_context(lock_folder(run_dir))
            run_folder = RunFolder(run_dir, own_identity)
            check_phase(program.phases(recipe), run_folder)
    if outcome.code:
        return outcome.code
    try:
        if workers.is_chief:
            program.run(recipe, data, model, run_folder)
        else:
            program.run_worker(recipe, data, model)
    except KeyboardInterrupt:
        print(f"Interrupted. To resume: {remedy}", file=sys.stderr)
        return INTERRUPTED
    except (CatastrophicOverfittingError, NotFiniteError) as error:
        print(f"error: {error} --run-dir {run_dir}", file=sys.stderr)
        return FAILED
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        print(
            f"error: {error}. The run cannot write any more. Its last checkpoint is whole: make room or repair, "
            f"then resume by {remedy}",
            file=sys.stderr,
        )
        return FAILED
    return 0


def build(recipe: Recipe, data: RetrievalData) -> HashingModel:
    """Build the encoder, after a check of the data, and of whether they can be held out as the recipe says."""
    check_data(data)
    hold_out(data, recipe.held_out_queries)
    return build_encoder(recipe)


def run(recipe: Recipe, data: RetrievalData, encoder: HashingModel, run_folder: RunFolder) -> None:
    """Train, evaluate and write everything into the folder of `run_folder`, from where that says on."""
    run_dir = run_folder.run_dir
    config = options(recipe)
    write_json(run_dir / "config.json", config)
    run_folder.checkpoints.mkdir(exist_ok=True)
    if isinstance(data, FileData):
        write_image_lists(data.lists, data.class_names, run_dir / "split", suffix=".txt.gz")
        if data.skipped:
            text = "".join(f"{image}\n" for image in data.skipped)
            write_text(run_dir / "skipped.txt", text)
            say(
                f"{len(data.skipped)} lines were left out, since their images cannot be read: {run_dir / 'skipped.txt'}"
            )
    say(
        f"{data.name}: {len(data.train)} training images, {len(data.database)} in the database, "
        f"{len(data.test)} queries, {len(data.class_names)} labels. Run folder: {run_dir}"
    )
    with encoder.distribute_strategy.scope():
        hashing_loss = build_hashing_loss(recipe, data.train.labels.shape[1])
    reports: dict[str, RetrievalReport] = {}
    data, held_out = hold_out(data, recipe.held_out_queries)
    workers = Workers(encoder.distribute_strategy)
    resumed = run_folder.position.phase if run_folder.position else "hashing"
    run_folder.announce()
    is_over = True
    for defense, phase, train, model_file in phases(recipe, held_out):
        (is_over,) = workers.any(is_over and phase != resumed)
        if is_over:
            load_weights(encoder, run_dir / model_file)
        else:
            train(recipe, data, encoder, hashing_loss, run_folder)
            write_whole(run_dir / model_file, encoder.save)
        report = run_folder.load_report(phase)
        if report is None:
            with run_folder.timed("evaluate"):
                report = evaluate_model(recipe, encoder, data, keep_images=SHOWN_QUERIES, jit_compile=recipe.jit)
            run_folder.save_report(phase, report)
        reports[defense] = report
        workers.wait()
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
        "seconds": {phase: round(spent, 1) for phase, spent in run_folder.seconds.items()},
        "peak_rss_mb": round(peak_rss_mb()),
        "results": [
            row for defense, scored in reports.items() for row in results(scored, defense=defense, top_k=recipe.top_k)
        ],
    }
    plot_maps(card, run_dir / "maps.png")
    queries = [
        shown
        for i in range(min(SHOWN_QUERIES, len(data.test)))
        for defense, scored in reports.items()
        for shown in attacked_queries(DEFENSES[defense], scored, data, [i])
    ]
    plot_queries(queries, from_255(recipe.epsilon_255), run_dir / "queries.png")
    write_json(run_dir / "card.json", card)  # last: it tells that the run is finished
    CONSOLE.print(result_table(card))
    say(f"Card, models, logs and pictures: {run_dir}")
    workers.part()


def hashing() -> Program:
    """Return the program of the trainers of hashing models."""
    return Program(build, identity, lambda recipe: ("hashing", recipe.defense), run, run_worker)
