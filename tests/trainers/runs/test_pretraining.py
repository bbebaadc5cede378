"""Adversarial pre-training from the command line's recipe: the run, its resume, the weights and the card it leaves."""

import dataclasses
import io
import json
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from saat_tf.attacks import PGD, SignStep, alignment
from saat_tf.backbones import backbone_spec, save_weights_file
from saat_tf.data import DataError, ImageList, array_split, write_records
from saat_tf.data.class_split import ClassSplit
from saat_tf.metrics.bootstrap import bootstrap_interval
from saat_tf.models import AdversarialClassifier, Classifier
from saat_tf.models.inner import NFGSM
from saat_tf.threat_model import ThreatModel
from tests.trainers.commands import ROOT
from trainers.callbacks.accuracy_probe import AccuracyProbe
from trainers.recipes.class_data import load_class_data
from trainers.recipes.pretrain_recipe import PretrainRecipe
from trainers.recipes.scenes import ScenesRecipe
from trainers.runs.pretraining import PRETRAINING
from trainers.runs.run import main
from trainers.runs.training import build_encoder

pytestmark = pytest.mark.slow

pytest.importorskip("safetensors", reason="the package safetensors is not installed")

CLASSES, TRAIN, HELD_OUT = ("blue", "green", "red"), 6, 5
OPTIONS = {
    "backbone": "small_cnn", "image_size": 16, "crop_fraction": 0.8, "batch_size": 4, "epochs": 2, "probe_images": 6,
    "checkpoint_every": 2, "attack_steps": 3, "restarts": 2, "learning_rate": 0.01, "ema_momentum": 0.5,
    "epsilon_255": 4.0,
}  # fmt: skip
SIGKILL_AT_STEP = """
import os, signal, sys
from saat_tf.training.checkpointing import Checkpointing
step, count = Checkpointing.on_train_batch_end, int(sys.argv.pop(1))
def killing(self, batch, logs=None):
    step(self, batch, logs)
    if self.steps == count:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpointing.on_train_batch_end = killing
import runpy
runpy.run_module("trainers.pretrain", run_name="__main__", alter_sys=True)
"""


def picture(column, number):
    """A noisy picture of 20 x 20 pixels in which the class's color is brighter."""
    pixels = np.random.default_rng([column, number]).integers(0, 200, (20, 20, 3))
    pixels[..., 2 - column] += 14
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretraining") / "colors"
    for column, name in enumerate(CLASSES):
        for split, first, count in (("train", 0, TRAIN), ("val", 100, HELD_OUT)):
            (root / split / name).mkdir(parents=True)
            for number in range(first, first + count):
                (root / split / name / f"{number}.png").write_bytes(picture(column, number))
    return root


def recipe_of(folder, run_dir, **options):
    return PretrainRecipe(**{**OPTIONS, "data_dir": folder, "run_dir": run_dir, "resume": True, **options})


def start(recipe):
    return main(recipe, "colors", lambda: load_class_data(recipe), PRETRAINING)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The folder of a run that nothing stopped."""
    run_dir = tmp_path_factory.mktemp("pretraining") / "whole"
    assert start(recipe_of(folder, run_dir)) == 0
    return run_dir


def weights_of(run_dir):
    return (run_dir / "export" / "backbone.safetensors").read_bytes()


def held_out_images():
    """The held-out pictures as the card's figures see them: the middle 16 of 20 pixels, by Pillow."""
    images, classes = [], []
    for column in range(len(CLASSES)):
        for number in sorted(range(100, 100 + HELD_OUT), key=str):
            image = Image.open(io.BytesIO(picture(column, number)))
            images.append(np.asarray(image)[2:18, 2:18] / np.float32(255))
            classes.append(column)
    return np.stack(images), np.array(classes)


def test_a_run_killed_and_resumed_ends_with_the_same_weights(folder, whole, tmp_path):
    run_dir = tmp_path / "cut"
    options = {**OPTIONS, "data_dir": folder, "run_dir": run_dir}
    arguments = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    killed = subprocess.run(
        [sys.executable, "-c", SIGKILL_AT_STEP, "8", *arguments, "--resume"], cwd=ROOT, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    newest = sorted((run_dir / "checkpoints").glob("[0-9]*"))[-1]
    # 18 images in batches of 4 are 5 steps an epoch, saved after 2, 4 and all of them.
    assert json.loads((newest / "facts.json").read_text())["position"] == {
        "phase": "classification", "epoch": 1, "step": 2, "steps": 7
    }  # fmt: skip
    # What is exported on the way is that checkpoint's, and changes nothing of how the run ends.
    assert start(recipe_of(folder, run_dir, export_only=True)) == 0
    card = json.loads((run_dir / "export" / "card.json").read_text())
    assert card["passes_over_data"] == 1.4 and not (run_dir / "card.json").exists()
    assert weights_of(run_dir) != weights_of(whole)
    assert start(recipe_of(folder, run_dir)) == 0
    assert weights_of(run_dir) == weights_of(whole)
    cards = [json.loads((path / "card.json").read_text()) for path in (run_dir, whole)]
    assert cards[0]["held_out"] == cards[1]["held_out"] and cards[0]["weights"] == cards[1]["weights"]
    assert cards[0]["passes_over_data"] == 2


def test_a_finished_run_stays_as_it_is(folder, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert start(recipe_of(folder, whole)) == 0
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_the_exported_backbone_gives_a_trainer_the_same_features(whole):
    classifier = keras.saving.load_model(whole / "export" / "classifier.keras", compile=False)
    encoder = build_encoder(
        ScenesRecipe(backbone="small_cnn", image_size=16, weights=whole / "export" / "backbone.safetensors")
    )
    images, _ = held_out_images()
    np.testing.assert_array_equal(encoder.features(images), classifier.features(images))
    untrained = build_encoder(ScenesRecipe(backbone="small_cnn", image_size=16))
    assert not np.allclose(untrained.features(images), classifier.features(images), atol=0.01)


def test_the_accuracies_of_the_card_are_those_of_the_stored_predictions(whole):
    held = json.loads((whole / "export" / "card.json").read_text())["held_out"]
    with np.load(whole / "export" / "predictions.npz") as stored:
        classes, clean, attacked = (stored[name] for name in ("classes", "clean", "attacked"))
    assert classes.tolist() == held_out_images()[1].tolist() and attacked.shape == (2, 3 * HELD_OUT)
    count = len(classes)
    clean_hits = [clean[i] == classes[i] for i in range(count)]
    robust_hits = [attacked[0, i] == classes[i] and attacked[1, i] == classes[i] for i in range(count)]
    assert held["images"] == count and held["chance"] == 1 / 3
    assert held["clean"]["value"] == pytest.approx(sum(clean_hits) / count)
    assert held["robust"]["value"] == pytest.approx(sum(robust_hits) / count)
    assert held["robust"]["interval"] == list(bootstrap_interval(np.array(robust_hits)))


def test_the_stored_predictions_are_those_of_the_exported_classifier(whole):
    classifier = keras.saving.load_model(whole / "export" / "classifier.keras", compile=False)
    images, classes = held_out_images()
    ball = ThreatModel.from_255(OPTIONS["epsilon_255"])
    pgd = PGD(threat_model=ball, objective=alignment, rule=SignStep(ball.epsilon / 4), num_steps=3)
    with np.load(whole / "export" / "predictions.npz") as stored:
        assert np.argmax(classifier(images), axis=1).tolist() == stored["clean"].tolist()
        for restart, found in enumerate(stored["attacked"]):
            perturbed = pgd(
                lambda x, alpha: classifier(x), tf.constant(images), -tf.one_hot(classes, 3), tf.constant([0, restart])
            )
            assert np.argmax(classifier(perturbed), axis=1).tolist() == found.tolist()


def test_a_card_names_what_made_it(whole):
    card = json.loads((whole / "card.json").read_text())
    assert card == json.loads((whole / "export" / "card.json").read_text())
    assert card["backbone"] == "small_cnn" and card["classes"] == 3 and card["training_images"] == 18
    assert card["config"]["seed"] == 0 and card["config"]["inner"] == "n-fgsm"
    assert set(card["seconds"]) == {"adversarial", "evaluate"} and "tensorflow" in card["versions"]


def test_the_probe_scores_the_classes_before_and_under_attack():
    keras.utils.set_random_seed(0)
    images, classes = held_out_images()
    training = AdversarialClassifier(Classifier("small_cnn", 3, 16), inner=NFGSM())
    split = ClassSplit.of_rows(array_split(images, np.eye(3, dtype=np.float32)[classes]))
    chosen = [0, 4, 7, 13]
    found = AccuracyProbe(split, chosen, ThreatModel.from_255(16), seed=0).measure(training)
    predicted = np.argmax(training.encoder(images[chosen]), axis=1)
    assert found.clean == np.mean(predicted == classes[chosen])
    assert found.changed.shape == (11,) and set(found.changed * 4) <= {0, 1, 2, 3, 4}
    # A prediction that was right and is no more has changed.
    assert found.robust >= found.clean - found.changed[-1] - 1e-9
    assert found.logs() == {
        "probe_clean_accuracy": found.clean,
        "probe_robust_accuracy": found.robust,
        "probe_predictions_changed": found.changed[-1],
    }


def lonely_class(root, folder):
    (root / "train" / "yellow").mkdir(parents=True)
    (root / "train" / "yellow" / "1.png").write_bytes(picture(0, 1))
    return {"data_dir": root}


def no_classes(root, folder):
    (root / "1.png").write_bytes(picture(0, 1))
    return {"data_dir": root}


def unreadable(root, folder):
    for name in ("blue", "red"):
        (root / name).mkdir()
        for number in range(3):
            length = 50 if (name, number) == ("red", 2) else None
            (root / name / f"{number}.png").write_bytes(picture(0, number)[:length])
    return {"data_dir": root, "held_out_share": 0.3}


def other_weights(root, folder):
    save_weights_file(backbone_spec("resnet18").build(32), "resnet18", root / "w.safetensors")
    return {"weights": root / "w.safetensors"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_classes, "0 class folders with images. Expected <class>/<image>"),
        (lonely_class, "1 class folders with images"),
        (unreadable, "2.png: "),
        (other_weights, "w.safetensors: Expected the state dict of small_cnn."),
        (lambda root, folder: {"data_dir": root / "none"}, "--data-dir must be a folder of class folders. Received: "),
        (lambda root, folder: {"data_dir": None}, "--data-dir must be a folder of class folders. Received: None"),
        (lambda root, folder: {"crop_fraction": 1.5}, "--crop-fraction must be in [0.25, 1]. Received: 1.5"),
        (lambda root, folder: {"held_out_share": 1.0}, "--held-out-share must be in (0, 1). Received: 1.0"),
        (lambda root, folder: {"restarts": 0}, "--restarts must be at least 1. Received: 0"),
        (lambda root, folder: {"ramp_epochs": -1.0}, "--ramp-epochs must be at least 0 and finite. Received: -1.0"),
        (lambda root, folder: {"inner": "fgsm-prior"}, "--inner fgsm-prior keeps a perturbation for each image"),
        (lambda root, folder: {"export_only": True}, "--export-only exports a checkpoint"),
    ],
)
def test_what_cannot_be_trained_is_one_error_before_anything_is_made(folder, tmp_path, capsys, make, message):
    (tmp_path / "input").mkdir()
    recipe = recipe_of(folder, tmp_path / "run")
    assert start(dataclasses.replace(recipe, **make(tmp_path / "input", folder))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_records_give_the_same_images_as_folders(folder, tmp_path):
    for split, name in (("train", "train"), ("val", "test")):
        files = [path for column in CLASSES for path in sorted((folder / split / column).iterdir())]
        labels = np.repeat(np.eye(3, dtype=np.float32), len(files) // 3, axis=0)
        write_records(ImageList(name, tuple(files), labels, tuple(range(1, len(files) + 1))), tmp_path)
    recipe = recipe_of(folder, None)
    ours, theirs = (load_class_data(dataclasses.replace(recipe, data_dir=place)) for place in (tmp_path, folder))
    for split in ("train", "held_out"):
        found, expected = getattr(ours, split), getattr(theirs, split)
        assert found.labels.dtype == np.int32 and found.labels.tolist() == expected.labels.tolist()
        np.testing.assert_array_equal(found.load(4), expected.load(4))


def test_records_of_several_labels_an_image_are_refused(folder, tmp_path):
    files = sorted((folder / "train" / "red").iterdir())
    labels = np.ones((len(files), 2), np.float32)
    write_records(ImageList("train", tuple(files), labels, tuple(range(1, len(files) + 1))), tmp_path)
    with pytest.raises(DataError, match=r"record 0 of train has 2 labels. Pre-training needs one class an image"):
        load_class_data(recipe_of(tmp_path, None))


def test_a_limit_takes_the_first_images_of_each_class_alike(folder):
    data = load_class_data(recipe_of(folder, None, limit_train=7))
    assert np.bincount(data.train.labels).tolist() == [3, 2, 2]
