"""Sweeps that train: real processes, one of them killed, then a chief with two workers, with the same trials."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import mainstay_attack
from saat_tf.evaluation import evaluate, result_value
from saat_tf.training import checkpointing
from tests.small_graphs import small_graphs
from trainers import sweep
from trainers.callbacks.model_selection import hold_out
from trainers.recipes.scenes import ScenesRecipe, load
from trainers.tuning.trial import TrialRunner
from trainers.tuning.tuner import IP, PORT, TUNER_ID

SWEEP = (
    "--tuner grid --max-trials 3 --space learning-rate=0.004,1e30 num-steps=1,2 --evaluation-epsilon-255 40 "
    "--evaluation-steps 2 --validation-queries 8"
).split()
RECIPE = {"image_size": 16, "bits": 16, "num_train": 40, "num_queries": 4, "batch_size": 16, "pretrain_epochs": 1}
SCENES = [word for name, value in RECIPE.items() for word in (f"--{name.replace('_', '-')}", str(value))]
PATIENCE = 300


@pytest.fixture(scope="module", autouse=True)
def small():
    """Have what is trained and loaded here the encoders of the processes."""
    with small_graphs():
        yield


def command(study_dir, *scenes):
    return ["--study-dir", str(study_dir), *SWEEP, "scenes", *SCENES, "--epochs", "2", *scenes]


def sweep_in(arguments, environment, notes, kill_at):
    """Sweep in this process, which kills itself at the end of the given epoch, counted over everything it trains."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    os.environ.update(environment)
    epochs, end_epoch = [], checkpointing.Checkpointing.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        epochs.append(f"{self.store.run_folder.run_dir.name}:{epoch}")
        if len(epochs) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        end_epoch(self, epoch, logs)

    checkpointing.Checkpointing.on_epoch_end = on_epoch_end
    with small_graphs():
        code = sweep.main(*sweep.read_command_line(arguments))
    sys.stdout.write(f"\nepochs {' '.join(epochs)}\n")
    sys.stdout.flush()
    raise SystemExit(code)


class Sweeps:
    """Processes that sweep, forked from one that has imported TensorFlow and done nothing with it."""

    def __init__(self, folder):
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["trainers.sweep"])

    def start(self, study, name, environment=types.MappingProxyType({}), kill_at=None):
        arguments = (command(self.folder / study), dict(environment), self.folder / name, kill_at)
        process = self.context.Process(target=sweep_in, args=arguments, daemon=True)
        process.start()
        return process

    def end(self, *processes):
        for process in processes:
            process.join(PATIENCE)
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()  # one that hangs, which is None among the codes
        return codes

    def said(self, name):
        return (self.folder / name).read_text()

    def epochs(self, name):
        """Return which epochs of which runs a process has trained to their end."""
        return [line for line in self.said(name).splitlines() if line.startswith("epochs")][-1].split()[1:]

    def study(self, name):
        return json.loads((self.folder / name / "study.json").read_text())

    def card(self, name, trial):
        return json.loads((self.folder / name / "trials" / trial / "card.json").read_text())


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """A sweep that was killed in the second epoch of its second trial, and called again."""
    sweeps = Sweeps(tmp_path_factory.mktemp("sweeps"))
    # One epoch of the undefended model, two of trial 0, one of trial 1.
    assert sweeps.end(sweeps.start("alone", "killed", kill_at=5)) == [-signal.SIGKILL]
    assert sweeps.end(sweeps.start("alone", "resumed")) == [0], sweeps.said("resumed")
    return sweeps


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_within_the_trial(sweeps):
    assert sweeps.epochs("resumed")[0] == "1:1"  # and neither the undefended model nor trial 0 is trained again
    assert not any(epoch.startswith(("undefended", "0:")) for epoch in sweeps.epochs("resumed"))
    study = sweeps.study("alone")
    assert [(x["trial"], x["status"]) for x in study["trials"]] == [
        ("0", "completed"),
        ("1", "completed"),
        ("2", "failed"),
    ]
    assert [x["values"] for x in study["trials"]] == [
        {"learning_rate": 0.004, "num_steps": 1}, {"learning_rate": 0.004, "num_steps": 2},
        {"learning_rate": 1e30, "num_steps": 1},
    ]  # fmt: skip


@pytest.mark.slow
def test_a_trial_is_a_run_whose_figures_are_of_held_out_queries_at_the_fixed_radius(sweeps):
    study, card = sweeps.study("alone"), sweeps.card("alone", "1")
    first = study["trials"][1]
    assert card["config"]["num_steps"] == 2 and card["config"]["epsilon_255"] == 8.0 and card["epochs"] == 2
    assert [row.get("epsilon_255") for row in card["results"]] == [None, 40.0] and study["epsilon_255"] == 40.0
    assert {row["num_queries"] for row in card["results"]} == {8}
    assert first["clean"] == result_value(card, defense="saat", attack="none")
    assert first["robust"] == result_value(card, defense="saat", attack="mainstay")
    assert first["robust_interval"][0] <= first["robust"] <= first["robust_interval"][1]
    data = load(ScenesRecipe(**RECIPE))
    encoder = keras.saving.load_model(sweeps.folder / "alone/trials/1/robust.keras", compile=False)
    epsilon = 40 / 255  # 5 times that of training
    report = evaluate(encoder, hold_out(data, 8)[1], lambda known: mainstay_attack(epsilon, known.train, num_steps=2))
    assert (report.clean_map, report.attacked_map) == (first["clean"], first["robust"])
    labels = data.train.labels
    held = [i * len(labels) // 8 for i in range(8)]  # spread over the training images, against the others
    relevant = labels[held] @ np.delete(labels, held, axis=0).T > 0
    np.testing.assert_allclose(card["chance_map"], relevant.mean(axis=1).mean(), atol=1e-6)
    names = {path.name for path in (sweeps.folder / "alone/trials/1").iterdir()}
    assert names == {".lock", "card.json", "config.json", "logs", "robust.keras"}


@pytest.mark.slow
def test_a_trial_that_fails_is_in_the_table_with_its_reason_and_not_best(sweeps):
    failed = sweeps.study("alone")["trials"][2]
    assert "NaN or infinite" in failed["reason"] and failed["robust"] is None and not failed["pareto"]
    assert "Traceback" in json.loads((sweeps.folder / "alone/trials/2/failure.json").read_text())["traceback"]
    said = sweeps.said("resumed")
    assert f"Trial 2 failed: {failed['reason']}" in said and "3 of 3 are over" in said
    table = said[said.index("MAP of 8 training images") :]
    best = max(sweeps.study("alone")["trials"][:2], key=lambda trial: trial["robust"])["trial"]
    assert [line.split()[0] for line in table.splitlines() if line.rstrip().endswith("best")] == [best]
    assert {"undefended", "chance"} <= {line.split()[0] for line in table.splitlines() if line.split()}
    rows = (sweeps.folder / "alone/study.csv").read_text().splitlines()
    assert rows[0].startswith("trial,learning_rate,num_steps,epochs,clean,robust,status,pareto") and len(rows) == 4
    picture = tf.io.decode_png((sweeps.folder / "alone/pareto.png").read_bytes())
    assert picture.shape[0] > 400 and len(np.unique(picture)) > 10


@pytest.mark.slow
def test_a_chief_and_two_workers_make_the_same_trials(sweeps):
    for part in ("options.json", "undefended"):  # nothing of it has to be trained again
        source, target = sweeps.folder / "alone" / part, sweeps.folder / "shared" / part
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {IP: "127.0.0.1", PORT: str(free.getsockname()[1])}
    names = ("chief", "tuner0", "tuner1")
    chief = sweeps.start("shared", "chief", {**address, TUNER_ID: "chief"})
    lost = sweeps.start("shared", "lost", {**address, TUNER_ID: "tuner0"}, kill_at=2)
    assert sweeps.end(lost) == [-signal.SIGKILL]  # the first worker, in the second epoch of its trial
    workers = [sweeps.start("shared", name, {**address, TUNER_ID: name}) for name in names[1:]]
    assert sweeps.end(chief, *workers) == [0, 0, 0], "\n".join(map(sweeps.said, names))
    assert sweeps.epochs("chief") == [] and sweeps.epochs("tuner0")[0] == "0:1"
    trained = sorted(sweeps.epochs("tuner0") + sweeps.epochs("tuner1"))
    assert [epoch for epoch in trained if not epoch.startswith("2:")] == ["0:1", "1:0", "1:1"]
    alone, shared = sweeps.study("alone"), sweeps.study("shared")
    figures = ("trial", "status", "values", "clean", "robust", "pareto", "reason")
    assert [[x[name] for name in figures] for x in shared["trials"]] == [
        [x[name] for name in figures] for x in alone["trials"]
    ]
    assert "3 of 3 are over" in sweeps.said("chief") and shared["over"]
    late = sweeps.start("shared", "late", {**address, TUNER_ID: "tuner2"})
    assert sweeps.end(late) == [0] and "has ended" in sweeps.said("late")


@pytest.mark.slow
def test_other_options_are_refused_and_a_sweep_that_is_over_stays_as_it_is(sweeps, capsys):
    assert sweep.main(*sweep.read_command_line(command(sweeps.folder / "alone", "--bits", "32", "--seed", "1"))) == 2
    message = capsys.readouterr().err
    assert "--bits: 16 -> 32\n  --data: " in message and "--seed: 0 -> 1" in message and "--epochs" not in message
    runs = [path for folder in ("trials", "undefended") for path in (sweeps.folder / "alone" / folder).rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in runs}
    assert sweep.main(*sweep.read_command_line(command(sweeps.folder / "alone"))) == 0
    assert {path: path.stat().st_mtime_ns for path in runs} == before


@pytest.mark.slow
def test_a_round_of_hyperband_goes_on_as_if_the_training_had_never_ended(sweeps, tmp_path):
    data, validation = hold_out(load(ScenesRecipe(**RECIPE)), 8)
    runner = TrialRunner(ScenesRecipe(**RECIPE, epochs=2), data, validation, 40.0, 2, tf.distribute.get_strategy())
    start, values = sweeps.folder / "alone/undefended", {"learning_rate": 0.004, "num_steps": 2}
    first = runner.trial(tmp_path / "0", values, start=start, epochs=1)
    second = runner.trial(tmp_path / "1", values, start=tmp_path / "0", epochs=2)
    assert (first["epochs"], second["epochs"], second["of_epochs"]) == (1, 2, 2)
    assert second["results"] == sweeps.card("alone", "1")["results"] != first["results"]
