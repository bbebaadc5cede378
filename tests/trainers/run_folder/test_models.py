"""Model files of a run: damaged in every way they end in one kind of error that names the file."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from saat_tf.models import HashingModel
from trainers.run_folder.models import load_encoder_file, load_model_file, load_weights

PART = ("config.json", "metadata.json", "model.weights.h5")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The parts of a model file, and the model."""
    keras.utils.set_random_seed(0)
    model = HashingModel("small_cnn", 8, 16)
    file = tmp_path_factory.mktemp("model") / "robust.keras"
    model.save(file)
    with zipfile.ZipFile(file) as archive:
        return model, file.read_bytes(), {name: archive.read(name) for name in archive.namelist()}


def write_parts(file, parts):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def changed_weights(content, change):
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as weights:
        change(weights)
    return buffer.getvalue()


def cut_first(weights):
    """Give the first array another shape."""
    names = []
    weights.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    del weights[names[0]]
    weights[names[0]] = np.zeros((1, 2, 3), np.float32)


def config(**changes):
    return lambda parts: {**parts, "config.json": json.dumps({**json.loads(parts["config.json"]), **changes}).encode()}


DAMAGE = {
    "another class": config(class_name="Absent", registered_name="saat_tf>Absent"),
    "options of another kind": config(config={"backbone": 3}),
    "no options": config(config=None),
    "a list": lambda parts: {**parts, "config.json": b"[1, 2]"},
    "a number": lambda parts: {**parts, "config.json": b"5"},
    "deep": lambda parts: {**parts, "config.json": b'{"a":' * 100_000},
    "no text": lambda parts: {**parts, "config.json": b"\xff\xfe"},
    "no configuration": lambda parts: {name: parts[name] for name in PART[1:]},
    "no weights": lambda parts: {name: parts[name] for name in PART[:2]},
    "no HDF5": lambda parts: {**parts, "model.weights.h5": b"x" * 999},
    "half the weights": lambda parts: {**parts, "model.weights.h5": parts["model.weights.h5"][:9000]},
    "no layers": lambda parts: {
        **parts, "model.weights.h5": changed_weights(parts["model.weights.h5"], lambda weights: weights.clear())
    },
    "another shape": lambda parts: {**parts, "model.weights.h5": changed_weights(parts["model.weights.h5"], cut_first)},
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_part_is_an_error_that_names_the_file(damage, whole, tmp_path):
    file = tmp_path / "robust.keras"
    write_parts(file, damage(whole[2]))
    with pytest.raises(ValueError, match=r"robust\.keras: cannot be read as a model .* repeat the run"):
        load_encoder_file(file)


def test_what_is_whole_is_loaded(whole, tmp_path):
    file = tmp_path / "robust.keras"
    write_parts(file, whole[2])
    images = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    np.testing.assert_array_equal(load_encoder_file(file).logits(images), whole[0].logits(images))
    other = HashingModel("small_cnn", 8, 16)
    load_weights(other, file)
    np.testing.assert_array_equal(other.logits(images), whole[0].logits(images))


@pytest.mark.slow
def test_no_damaged_byte_raises_another_error(whole, tmp_path):
    file = tmp_path / "robust.keras"
    choose = np.random.RandomState(0)
    refused = 0
    for i in range(80):
        content = bytearray(whole[1])
        if i % 2:
            del content[choose.randint(len(content)) :]
        else:
            for place in choose.randint(len(content), size=200):
                content[place] = choose.randint(256)
        file.write_bytes(content)
        try:
            load_encoder_file(file)
        except ValueError as error:
            assert "robust.keras" in str(error)
            refused += 1
    assert refused >= 40  # every file that was cut


def test_another_model_and_no_model_are_refused(whole, tmp_path):
    file = tmp_path / "robust.keras"
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(3)(inputs)).save(file)
    with pytest.raises(ValueError, match=r"expected a HashingModel\. Received: Functional"):
        load_encoder_file(file)
    assert load_model_file(file, keras.Model).count_params() == 9
    with pytest.raises(ValueError, match=r"robust\.keras: cannot be read as a model"):
        load_weights(whole[0], file)
    for name in ("absent.keras", "."):
        with pytest.raises(FileNotFoundError, match="no such file"):
            load_encoder_file(tmp_path / name)
