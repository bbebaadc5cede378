"""Runs that are cut off and go on: real processes, real SIGKILL, the same bits in the end."""

import json
import shutil
import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.command_line import USAGE_ERROR
from saat_tf.data import DataError
from saat_tf.files import lock_folder
from saat_tf.training.checkpointing import Checkpointing, NotFiniteError
from saat_tf.training.workers import Workers
from tests.stress.kill_resume import KILLED, Runs
from trainers.recipes.identity import identity, options
from trainers.recipes.scenes import ScenesRecipe, load
from trainers.run_folder.state import PhaseCheckpoints, RunFolder
from trainers.runs.fitting import Phase, lower_rate
from trainers.runs.resume import check_options
from trainers.runs.run import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs, the one named "whole" done without a break."""
    runs = Runs(tmp_path_factory.mktemp("runs"))
    assert runs.run("whole") == 0
    return runs


@pytest.mark.slow
def test_a_run_checkpoints_on_the_way_and_after_each_epoch_and_keeps_two(runs):
    # 44 images in batches of 8 are 6 steps an epoch, saved after 2, 4 and at its end; 2 + 2 epochs.
    kept = sorted(path.name for path in (runs.folder / "whole" / "checkpoints").glob("[0-9]*"))
    assert kept == [f"{number:010d}" for number in (4 * 3 - 1, 4 * 3)]
    assert runs.outcome("whole")["position"] == {"phase": "saat", "epoch": 2, "step": 0, "steps": 12}


def position(runs, name):
    newest = sorted((runs.folder / name / "checkpoints").glob("[0-9]*"))[-1]
    return newest, json.loads((newest / "facts.json").read_text())["position"]


@pytest.mark.slow
def test_a_run_that_is_cut_off_again_and_again_goes_on_to_the_same_bits(runs):
    # As a checkpoint was about to be put in its place, in the middle of the second epoch of pre-training.
    assert runs.run("cut", ("replace", 5)) == KILLED
    assert position(runs, "cut")[1] == {"phase": "hashing", "epoch": 1, "step": 2, "steps": 8}
    # By Ctrl-C in the middle of an epoch of adversarial training: a checkpoint was due a step before and a step later.
    assert runs.run("cut", ("on_train_batch_end", 4 + 2), by=signal.SIGINT) == 130
    assert "--resume --run-dir" in runs.said("cut")
    newest, where = position(runs, "cut")
    assert where == {"phase": "saat", "epoch": 0, "step": 3, "steps": 3}
    # That checkpoint is damaged; the next run dies in its evaluation.
    (newest / "arrays.npz").write_bytes((newest / "arrays.npz").read_bytes()[:1000])
    assert runs.run("cut", ("encode", 2)) == KILLED
    assert f"warning: {newest / 'arrays.npz'}: is not what was written" in runs.said("cut")
    assert position(runs, "cut")[1]["epoch"] == 2 and not (runs.folder / "cut" / "card.json").exists()
    assert runs.run("cut") == 0
    assert runs.calls("cut").get("on_train_batch_end", 0) == 0  # nothing was trained anew
    assert runs.outcome("cut") == runs.outcome("whole")


@pytest.mark.slow
def test_a_run_on_two_devices_that_is_cut_off_goes_on_to_the_same_bits(runs):
    options = {"devices": ("CPU:0", "CPU:1"), "num_train": 43, "pretrain_epochs": 1, "epochs": 1}
    # Without the probe, which trains nothing, and up to the evaluation of what it has trained.
    assert runs.run("pair", ("encode", 4), **options, probe_images=0) == KILLED
    assert position(runs, "pair")[1] == {"phase": "saat", "epoch": 1, "step": 0, "steps": 6}
    assert runs.run("pair-cut", ("on_train_batch_end", 6 + 4), **options) == KILLED
    assert position(runs, "pair-cut")[1] == {"phase": "saat", "epoch": 0, "step": 4, "steps": 4}
    assert runs.run("pair-cut", **options) == 0
    assert runs.states("pair-cut") == runs.states("pair")


@pytest.mark.slow
def test_a_finished_run_stays_as_it_is(runs):
    before = {path: path.stat().st_mtime_ns for path in (runs.folder / "whole").rglob("*")}
    assert runs.run("whole") == 0
    assert {path: path.stat().st_mtime_ns for path in (runs.folder / "whole").rglob("*")} == before


def test_changed_options_are_listed_and_refused_unless_they_may_change(tmp_path, capsys):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    before = ScenesRecipe(run_dir=run_dir, checkpoint_every=5)
    (run_dir / "config.json").write_text(json.dumps(options(before)))
    check_options(ScenesRecipe(run_dir=run_dir, resume=True), run_dir)  # how it is run is no change
    with pytest.raises(ValueError, match=r"--bits: 32 -> 16\n  --seed: 0 -> 3\n.*--allow-changes") as refused:
        check_options(ScenesRecipe(run_dir=run_dir, resume=True, bits=16, seed=3), run_dir)
    assert "--epochs" not in str(refused.value)
    check_options(ScenesRecipe(run_dir=run_dir, resume=True, bits=16, allow_changes=True), run_dir)
    assert "--bits: 32 -> 16" in capsys.readouterr().err
    assert json.loads((run_dir / "config-1.json").read_text()) == options(before)
    (tmp_path / "other" / "photos").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="something else"):
        check_options(before, tmp_path / "other")


@pytest.mark.parametrize(
    "text, message", [("[" * 100_000, "nested in more than 100 levels"), ("[1]", "Received: list")]
)
def test_damaged_options_are_named_and_nothing_is_trained(tmp_path, capsys, text, message):
    recipe = ScenesRecipe(run_dir=tmp_path / "run", resume=True)
    recipe.run_dir.mkdir()
    (recipe.run_dir / "config.json").write_text(text)
    assert main(recipe, "scenes", lambda: pytest.fail("data were loaded")) == USAGE_ERROR
    told = capsys.readouterr().err
    assert told.startswith(f"error: {recipe.run_dir / 'config.json'}: ") and message in told
    assert told.endswith("Restore it, or begin a new run.\n")


def test_damage_that_a_run_meets_while_it_trains_ends_it_with_the_name_of_the_file(tmp_path, capsys, monkeypatch):
    def run(*_):
        raise DataError("probe.json: expected a list")

    monkeypatch.setattr("trainers.runs.run.run", run)
    recipe = ScenesRecipe(run_dir=tmp_path / "run", num_train=32, num_queries=4, image_size=16)
    assert main(recipe, "scenes", lambda: load(recipe)) == USAGE_ERROR
    assert capsys.readouterr().err.splitlines()[-1] == "error: probe.json: expected a list"


def test_a_run_folder_in_which_another_process_works_is_refused(tmp_path, capsys):
    recipe = ScenesRecipe(run_dir=tmp_path / "run", resume=True, num_train=32, num_queries=4, image_size=16)
    recipe.run_dir.mkdir()
    with lock_folder(recipe.run_dir):
        assert main(recipe, "scenes", lambda: load(recipe)) == USAGE_ERROR
    assert "another process writes here" in capsys.readouterr().err


@pytest.mark.parametrize("loss, weight, message", [(np.nan, 1.0, "A loss is NaN"), (1.0, np.inf, "A weight is NaN")])
def test_what_is_no_number_ends_the_training_with_advice_and_is_not_saved(tmp_path, loss, weight, message):
    state = [keras.Variable([1.0, weight])]
    training = types.SimpleNamespace(training_state=lambda: state, metric_variables=list)
    run_folder = RunFolder(tmp_path, {"data": "here"})
    clock, alone = run_folder.timed("adversarial"), Workers(tf.distribute.get_strategy())
    store = PhaseCheckpoints(run_folder, "saat", clock)
    checkpointing = Checkpointing(
        store, training, epoch_steps=3, every=1, workers=alone, remedy=lower_rate(Phase("saat", "SAAT", "adversarial"))
    )
    with run_folder.timed("adversarial") as store.clock, pytest.raises(NotFiniteError, match=message) as ended:
        checkpointing.on_train_batch_end(0, {"loss": loss})
    assert "lower --learning-rate" in str(ended.value) and not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_the_identity_of_data_is_that_of_its_labels(runs):
    first, again, other = (
        identity(load(ScenesRecipe(image_size=16, num_train=20, num_queries=3, seed=seed)))["data"]
        for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.slow
def test_other_data_is_refused(runs):
    shutil.copytree(runs.folder / "whole", runs.folder / "other")
    (runs.folder / "other" / "card.json").unlink()
    assert runs.run("other", seed=1) == 2 and "--seed: 0 -> 1" in runs.said("other")
    assert runs.run("other", seed=1, allow_changes=True) == 2 and "the data set is not the one" in runs.said("other")
