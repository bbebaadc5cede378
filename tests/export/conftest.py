"""A run folder and an export of it, small enough to make for every session."""

import dataclasses
import json

import keras
import pytest

from export.saved_model import export_saved_model
from saat_tf.models import HashingModel
from trainers.recipes.scenes import ScenesRecipe

BITS, SIZE = 16, 24
RECIPE = ScenesRecipe(
    bits=BITS, image_size=SIZE, num_train=48, num_queries=12, attack_steps=2, pretrained=False, top_k=20
)


@pytest.fixture(scope="session")
def small_encoder():
    keras.utils.set_random_seed(0)
    return HashingModel("small_cnn", BITS, SIZE)


@pytest.fixture(scope="session")
def small_run(small_encoder, tmp_path_factory):
    """The folder of a run on drawn scenes, whose model has not been trained."""
    folder = tmp_path_factory.mktemp("run")
    small_encoder.save(folder / "robust.keras")
    card = {
        "dataset": "scenes",
        "backbone": "small_cnn",
        "code_length": BITS,
        "epsilon_255": 8.0,
        "chance_map": 0.3,
        "config": json.loads(json.dumps(dataclasses.asdict(RECIPE), default=str)),
        "versions": {"saat_tf": "0.1.0"},
        "results": [{"defense": "saat", "attack": "none", "metric": "MAP", "top_k": 20, "value": 0.4}],
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="session")
def small_export(small_encoder, tmp_path_factory):
    """The encoder of `small_run` as a SavedModel."""
    out = tmp_path_factory.mktemp("export") / "encoder"
    export_saved_model(small_encoder, out, card={})
    return out
