"""Defenses from the command line: names on card and files, recipes, averaged weights, held-out queries, ComDefend."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from saat_tf.command_line import USAGE_ERROR
from saat_tf.data import evaluation_batches, training_epochs
from saat_tf.layers import CodeBank
from tests.small_graphs import flat_backbone, small_graphs
from trainers import comdefend
from trainers.callbacks import model_selection as selection
from trainers.comdefend import ComDefendOptions
from trainers.evaluate import EvaluationOptions
from trainers.evaluate import main as evaluate
from trainers.recipes import scenes
from trainers.recipes.defense_options import STRONG, named_recipe, read_command_line
from trainers.recipes.scenes import ScenesRecipe
from trainers.run_folder.state import RunFolder
from trainers.runs import fitting, run
from trainers.runs.training import build_defense, build_encoder, build_hashing_loss, train_adversarially

pytestmark = pytest.mark.slow

SMALL = {"image_size": 16, "bits": 16, "pretrain_epochs": 1, "epochs": 1, "num_steps": 1, "attack_steps": 2}
SMALL = {**SMALL, "num_train": 64, "num_queries": 6, "batch_size": 32}


@pytest.fixture(scope="module", autouse=True)
def small():
    """Names, files and averages are the same on any network."""
    with small_graphs(flat_backbone):
        yield


@pytest.fixture(scope="module")
def cgat_run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "scenes"
    recipe = named_recipe(ScenesRecipe, "strong", run_dir=run_dir, defense="cgat", **SMALL)
    assert run.main(recipe, "scenes", lambda: scenes.load(recipe)) == 0
    return run_dir


def card_of(run_dir):
    return json.loads((run_dir / "card.json").read_text())


def test_a_run_bears_the_name_of_its_defense(cgat_run, capsys):
    card = card_of(cgat_run)
    assert {row["defense"] for row in card["results"]} == {"none", "cgat"}
    assert (card["config"]["recipe"], card["config"]["defense"]) == ("strong", "cgat")
    assert list((cgat_run / "checkpoints").glob("[0-9]*")) and (cgat_run / "logs" / "cgat").is_dir()
    assert (cgat_run / "robust.keras").is_file() and (cgat_run / "maps.png").is_file()


def test_a_purified_model_joins_the_run_and_is_evaluated_like_the_others(cgat_run, capsys):
    assert comdefend.main(ComDefendOptions(run_dir=cgat_run, epochs=0)) == USAGE_ERROR
    assert not (cgat_run / "comdefend.keras").exists()
    assert comdefend.main(ComDefendOptions(run_dir=cgat_run, epochs=1)) == 0
    assert {row["defense"] for row in card_of(cgat_run)["results"]} == {"none", "cgat", "comdefend"}
    assert "ComDefend" in capsys.readouterr().out
    assert comdefend.main(ComDefendOptions(run_dir=cgat_run, epochs=1)) == USAGE_ERROR
    assert "overwritten" in capsys.readouterr().err
    options = EvaluationOptions(run_dir=cgat_run, attacks=("hag",), num_steps=(2,), num_queries=3, report=False)
    assert evaluate(options) == 0
    attacked = {row["defense"] for row in card_of(cgat_run)["results"] if row["attack"] == "hag"}
    assert attacked == {"none", "cgat", "comdefend"}
    assert evaluate(dataclasses.replace(options, defenses=("saat",))) == USAGE_ERROR
    assert "none, cgat, comdefend" in capsys.readouterr().err


def test_a_named_recipe_gives_defaults_that_the_user_overrides():
    strong = read_command_line(ScenesRecipe, ["--recipe", "strong", "--learning-rate", "0.125"])
    assert strong.learning_rate == 0.125 and strong.recipe == "strong"
    for option, value in STRONG.items():
        assert option == "learning_rate" or getattr(strong, option) == value
    assert read_command_line(ScenesRecipe, ["--recipe=strong"]) == named_recipe(ScenesRecipe, "strong")
    assert read_command_line(ScenesRecipe, []) == ScenesRecipe()


@pytest.mark.parametrize("arguments", [["--recipe", "weak"], ["--recipe"], ["--defense", "none"]])
def test_an_unknown_recipe_or_defense_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        read_command_line(ScenesRecipe, arguments)
    assert error.value.code == USAGE_ERROR
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("defense, weights", [("saat", (1.0, 1e-4)), ("cgat", (1.0, 0.0)), ("atrdh", (2.0, None))])
def test_weights_default_to_those_of_the_defenses_authors(defense, weights):
    recipe = ScenesRecipe(defense=defense, **SMALL)
    bank = CodeBank.from_labels(np.eye(4), recipe.bits)
    model = build_defense(recipe, build_encoder(recipe), bank, build_hashing_loss(recipe, 4))
    assert (model.adversarial_weight, getattr(model, "quantization_weight", None)) == weights
    changed = dataclasses.replace(recipe, adversarial_weight=0.5, consistency_weight=0.25)
    model = build_defense(changed, build_encoder(recipe), bank, build_hashing_loss(recipe, 4))
    assert (model.adversarial_weight, model.refinements.consistency_weight) == (0.5, 0.25)


class Recorder(keras.callbacks.Callback):
    """Keep the encoder's weights after each step, and the logs after each epoch."""

    steps, epochs = [], []

    def __init__(self, path, probe, *, profile):
        super().__init__()
        Recorder.steps, Recorder.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        Recorder.steps.append([w.numpy() for w in self.model.encoder.trainable_variables])

    def on_epoch_end(self, epoch, logs=None):
        Recorder.epochs.append(logs["held_out_robust_map"] if "held_out_robust_map" in logs else None)


def trained(tmp_path, monkeypatch, **options):
    monkeypatch.setattr(fitting, "TensorBoardLog", Recorder)
    recipe = ScenesRecipe(**{**SMALL, "learning_rate": 0.02, "probe_images": 0, **options})
    keras.utils.set_random_seed(0)
    data, held_out = selection.hold_out(scenes.load(recipe), recipe.held_out_queries)
    encoder, run_folder = build_encoder(recipe), RunFolder(tmp_path, {"data": "scenes"})
    train_adversarially(recipe, data, encoder, build_hashing_loss(recipe, 10), run_folder, held_out=held_out)
    return [w.numpy() for w in encoder.trainable_variables]


def test_averaged_weights_are_the_moving_mean_of_every_step(tmp_path, monkeypatch):
    weights = trained(tmp_path, monkeypatch, ema_momentum=0.75, num_train=96)
    assert len(Recorder.steps) == 3
    for weight, first, second, third in zip(weights, *Recorder.steps, strict=True):
        np.testing.assert_allclose(weight, 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third, rtol=1e-4, atol=1e-6)


def test_the_epoch_most_robust_on_held_out_queries_is_kept(tmp_path, monkeypatch):
    weights = trained(tmp_path, monkeypatch, held_out_queries=32, num_train=64, epochs=3)
    assert len(Recorder.steps) == 3  # 32 images are left, a step an epoch
    best = int(np.argmax(Recorder.epochs))
    for weight, expected in zip(weights, Recorder.steps[best], strict=True):
        np.testing.assert_array_equal(weight, expected)
    told = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    assert told == {"epoch": best + 1, "held_out_robust_map": max(Recorder.epochs)}


def test_held_out_queries_are_training_images_that_are_not_trained_on():
    recipe = ScenesRecipe(**SMALL)
    data = scenes.load(recipe)
    rest, held_out = selection.hold_out(data, 5)
    assert (len(rest.train), len(held_out.train), len(held_out.test)) == (59, 59, 5)
    np.testing.assert_array_equal(held_out.test.load(2), data.train.load(25))
    ((images, labels, index),) = evaluation_batches(held_out.test, 8)
    np.testing.assert_array_equal(index, range(5))
    np.testing.assert_array_equal(images[4], data.train.load(51))
    np.testing.assert_array_equal(labels, data.train.labels[[0, 12, 25, 38, 51]])
    np.testing.assert_array_equal(held_out.test.labels, labels)
    ((images, labels, index),) = training_epochs(rest.train, 64, seed=0)(0, 0)
    others = np.delete(np.arange(64), [0, 12, 25, 38, 51])
    assert sorted(index.numpy()) == list(range(59))
    np.testing.assert_array_equal(labels, data.train.labels[others[index]])
    np.testing.assert_array_equal(images[0], data.train.load(others[index[0]]))
    assert rest.test is data.test and rest.database is data.database
    assert selection.hold_out(data, 0) == (data, None)
