"""Presets: what comes with the package loads, gives the figures of its card, and a damaged one is refused."""

import json
import shutil
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy

import saat_tf
from saat_tf import HashingModel
from saat_tf.data import draw_scenes
from saat_tf.models.preset_files import PACKAGED

NAMES = ["scenes_32bits_saat_strong", "scenes_32bits_undefended"]
IMAGES = np.random.default_rng(0).random((2, 8, 12, 3), np.float32)


def test_the_presets_of_the_package_have_cards_that_say_what_they_withstand():
    found = saat_tf.presets()
    assert list(found) == NAMES
    for card in found.values():
        withstood = card["robustness"]
        rows = {row["attack"]: row["value"] for row in withstood["results"]}
        assert list(rows) == ["none", "auto", "mainstay", "center", "square", "worst"]
        assert withstood["worst_case_map"] == rows["worst"] <= min(rows.values())
        assert (withstood["num_queries"], withstood["num_database"], withstood["epsilon_255"]) == (200, 8000, 8.0)
        assert card["recipe"]["program"] == "trainers.scenes" and card["weights"]["dtype"] == "float16"
    robust, undefended = (found[name]["robustness"] for name in NAMES)
    assert undefended["worst_case_map"] < undefended["chance_map"] < robust["worst_case_map"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_loads_without_a_download_and_encodes_scenes(name):
    """The queries find what shares a label with them about as well as the card says, on a smaller database."""
    model = HashingModel.from_preset(name)
    assert (model.code_length, model.image_size, model.precision) == (32, 32, "float32")
    scenes, queries = draw_scenes(400, seed=0), draw_scenes(60, seed=1)
    database, codes = (np.unpackbits(model.encode(part.images), axis=1) * 2.0 - 1 for part in (scenes, queries))
    values = []
    for code, labels in zip(codes, queries.labels, strict=True):
        hits = (scenes.labels @ labels > 0)[np.argsort(-(database @ code), kind="stable")]
        values.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    (clean,) = (row["value"] for row in saat_tf.presets()[name]["robustness"]["results"] if row["attack"] == "none")
    assert abs(np.mean(values) - clean) < 0.06


def test_presets_are_part_of_the_package():
    root = Path(saat_tf.__file__).parents[1]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert {file.parent.name for file in (root / "saat_tf").glob(data["saat_tf"][0])} == set(NAMES)


def own():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return HashingModel(keras.Sequential([keras.Input((8, 12, 3)), *layers]), code_length=8, mean=(0.5,) * 3)


@pytest.fixture
def preset(tmp_path):
    model = own()
    model.save_to_preset(tmp_path / "mine", card={"about": "mine"}, dtype="float32")
    return model, tmp_path / "mine"


def test_a_network_of_ones_own_comes_back_to_the_bit(preset):
    model, folder = preset
    loaded = HashingModel.from_preset(folder)
    np.testing.assert_array_equal(loaded.logits(IMAGES), model.logits(IMAGES))
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "config.json", "model.safetensors"]
    assert json.loads((folder / "card.json").read_text())["about"] == "mine"


def test_in_half_precision_the_weights_are_the_nearest_ones(preset):
    model, folder = preset
    model.save_to_preset(folder, card={})
    loaded = HashingModel.from_preset(folder)
    for own_weight, stored in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(stored, own_weight.astype(np.float16).astype(np.float32))
    model.hash_head.projection.bias.assign([70000.0] * 8)
    with pytest.raises(ValueError, match=r"is not finite in float16.*Use float32"):
        model.save_to_preset(folder, card={})
    with pytest.raises(ValueError, match=r"must be float16 or float32\. Received: 'int8'"):
        model.save_to_preset(folder, card={}, dtype="int8")


def cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def changed(folder):
    file = folder / "model.safetensors"
    contents = bytearray(file.read_bytes())
    contents[-1] ^= 1
    file.write_bytes(contents)


def of_another(folder):
    """Weights and card of a model with more filters."""
    other = keras.Sequential([keras.Input((8, 12, 3)), keras.layers.Conv2D(5, 3)])
    HashingModel(other, code_length=8).save_to_preset(folder / "other", card={})
    for name in ("model.safetensors", "card.json"):
        shutil.move(folder / "other" / name, folder / name)


def without_digest(folder):
    (folder / "card.json").write_text("{}")


DAMAGED = {
    "cut short": (cut_short, r"states \d+ bytes. Received: \d+. The file is cut short"),
    "one bit changed": (changed, r"states the SHA-256 [0-9a-f]{64}. Received: [0-9a-f]{64}"),
    "weights of another model": (
        of_another,
        r"Received: 4 for 8 weights; what differs first is 0000",
    ),
    "no digest": (without_digest, "card.json: weights missing"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_preset_is_refused(name, preset):
    damage, message = DAMAGED[name]
    damage(preset[1])
    with pytest.raises(ValueError, match=message):
        HashingModel.from_preset(preset[1])


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=rf"one of {', '.join(NAMES)}, or a folder .*Received: 'scenes'"):
        HashingModel.from_preset("scenes")


def test_a_missing_file_is_named(preset):
    (preset[1] / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        HashingModel.from_preset(preset[1])


def test_files_are_readable_by_all_as_others_are():
    assert all(file.stat().st_mode & 0o044 for file in PACKAGED.rglob("*.*"))


def test_weights_are_floats_of_sixteen_bits():
    arrays = safetensors.numpy.load_file(PACKAGED / NAMES[0] / "model.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
