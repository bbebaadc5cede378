"""Hashing networks of PyTorch: logits stored by PyTorch itself, for the layouts of public repositories."""

import json
import math
import pickle
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy

from export.from_torch import TorchImport, main
from saat_tf.models import HashingModel
from saat_tf.models.torch_files import hashing_model_from_torch, in_torchvision_names, split_hash_layer, without_prefix

ORACLE = json.loads((Path(__file__).parents[2] / "reference" / "torch_hashing_oracle.json").read_text())
BITS, CASES = ORACLE["bits"], ORACLE["cases"]
HASH_LAYERS = {
    "alexnet features/classifier": "fc8",
    "alexnet classifier": "classifier.6",
    "alexnet hash sequence": "hash_layer",
    "alexnet feature_layers": "hash_layer",
    "resnet18 feature_layers": "hash_layer",
    "resnet18 both": "hash_layer",
}


def formula(name, shape):
    """The formula of make_torch_hashing_oracle.py."""
    u = np.resize(np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, 65537).astype(np.float32), shape)
    if name.endswith((".bias", ".running_mean")):
        return u / np.float32(10)
    if name.endswith(".running_var") or len(shape) == 1:
        return 1 + u / np.float32(2)
    return np.float32(math.sqrt(6 / math.prod(shape[1:]))) * u


def state_dict(layout):
    """The arrays by the names of the layout, as PyTorch listed them."""
    case = CASES[layout]
    known = {
        name: np.zeros((), np.int64) if name.endswith("num_batches_tracked") else formula(name, tuple(shape))
        for name, shape in case["shapes"].items()
    }
    return {name: known[torchvision] for name, torchvision in case["names"].items()}


def images_of(case):
    size = case["image_size"]
    return np.random.RandomState(case["seed"]).rand(2, size, size, 3).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("layout", CASES)
def test_logits_are_those_of_pytorch(layout, tmp_path):
    arrays = state_dict(layout)
    if layout == "resnet18 both":
        arrays = {f"module.{name}": array for name, array in arrays.items()}
    safetensors.numpy.save_file({name: array.copy() for name, array in arrays.items()}, tmp_path / "net.safetensors")
    case, backbone = CASES[layout], layout.split()[0]
    model = hashing_model_from_torch(
        tmp_path / "net.safetensors", backbone=backbone, hash_layer=HASH_LAYERS[layout], image_size=case["image_size"]
    )
    logits = model.logits(images_of(case)).numpy()
    assert isinstance(model, HashingModel) and model.code_length == BITS
    scale = np.abs(case["logits"]).max()
    np.testing.assert_allclose(logits / scale, np.array(case["logits"]) / scale, atol=1e-5)
    keras.backend.clear_session()


@pytest.mark.parametrize("layout", CASES)
def test_every_name_of_a_layout_becomes_that_of_torchvision(layout):
    """PyTorch itself said which tensor each name belongs to."""
    case, family = CASES[layout], layout.split()[0].rstrip("18")
    shapes = {name: np.zeros([min(side, 2) for side in case["shapes"][known]]) for name, known in case["names"].items()}
    rest, kernel, bias = split_hash_layer(without_prefix(shapes), HASH_LAYERS[layout], family)
    assert kernel.ndim == 2 and bias.ndim == 1
    expected = {name for name in case["shapes"] if not name.startswith("hash.")}
    assert set(in_torchvision_names(rest, family)) == expected


def test_vgg_below_feature_layers():
    names = {
        "feature_layers.0.0.weight": 4,
        "feature_layers.0.1.running_mean": 1,
        "feature_layers.1.classifier3.bias": 1,
    }
    found = in_torchvision_names({name: np.zeros((2,) * rank) for name, rank in names.items()}, "vgg")
    assert list(found) == ["features.0.weight", "features.1.running_mean", "classifier.3.bias"]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A file of ResNet-18 as PyTorch 1.6 and later writes it, and its arrays."""
    arrays = state_dict("resnet18 feature_layers")
    file = tmp_path_factory.mktemp("torch") / "net.pth"
    write_pth(file, arrays)
    return file, arrays


class Named:
    """Something that a pickle names without containing it."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Storage(tuple):
    """A storage, which a pickle refers to by a persistent id."""


def write_pth(path, arrays):
    """Write what torch.save writes, by the standard library's pickler."""

    def rebuild(*arguments):
        raise AssertionError(arguments)

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"

    class Tensor:
        def __init__(self, key, array):
            self.key, self.array = key, array

        def __reduce__(self):
            kind = "LongStorage" if self.array.dtype == np.int64 else "FloatStorage"
            strides = tuple(stride // self.array.itemsize for stride in self.array.strides)
            storage = Storage((kind, self.key, self.array.size))
            return rebuild, (storage, 0, self.array.shape, strides, False, {})

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                kind, key, size = value
                return ("storage", Named("torch", kind), key, "cpu", size)
            return None

        def save(self, value, save_persistent_id=True):
            if isinstance(value, Named):
                self.write(f"c{value.module}\n{value.name}\n".encode())
            elif value is rebuild:
                self.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
            else:
                super().save(value, save_persistent_id)

    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("net/data.pkl", "w") as file:
            Pickler(file, protocol=2).dump(
                {name: Tensor(str(i), array) for i, (name, array) in enumerate(arrays.items())}
            )
        for i, array in enumerate(arrays.values()):
            archive.writestr(f"net/data/{i}", array.tobytes())


@pytest.mark.slow
def test_a_command_makes_a_preset_of_a_pth_file(resnet, tmp_path, capsys):
    file, _ = resnet
    options = {"weights": file, "backbone": "resnet18", "hash_layer": "hash_layer", "image_size": 64}
    assert main(TorchImport(**options, out=tmp_path / "net")) == 0
    case = CASES["resnet18 feature_layers"]
    logits = HashingModel.from_preset(tmp_path / "net").logits(images_of(case)).numpy()
    np.testing.assert_allclose(logits, case["logits"], atol=1e-5 * np.abs(logits).max())
    card = json.loads((tmp_path / "net" / "card.json").read_text())
    assert card["source"]["hash_layer"] == "hash_layer" and card["weights"]["dtype"] == "float32"
    assert main(TorchImport(**options, out=tmp_path / "net")) == 2
    assert "exists, and is not overwritten" in capsys.readouterr().err


def renamed(arrays, old, new):
    return {name.replace(old, new): array for name, array in arrays.items()}


REFUSED = {
    "another hash layer": (lambda a: a, {"hash_layer": "fc"}, "1 linear layers: hash_layer. Name one of them"),
    "a convolution": (lambda a: a, {"hash_layer": "feature_layers.0"}, "Expected a linear hash layer feature_layers.0"),
    "another family": (lambda a: a, {"backbone": "small_cnn"}, "must be alexnet, or one of vgg or resnet"),
    "another depth": (lambda a: a, {"backbone": "resnet34"}, r"state dict of resnet34. Received: one with \d+ missing"),
    "wider features": (lambda a: a, {"backbone": "resnet50"}, r"maps 2048 features to bits. Received: hash_layer of"),
    "a tensor missing": (lambda a: {k: v for k, v in a.items() if k != "feature_layers.1.bias"}, {},
                         "1 missing: bn1.bias, 0 left over, 0 unfit"),
    "a layer too many": (lambda a: {**a, "bn2.weight": np.ones(4, np.float32)}, {}, "1 left over: bn2.weight"),
    "another shape": (lambda a: {**a, "feature_layers.1.bias": np.ones(5, np.float32)}, {}, r"1 unfit: bn1.bias \(flo"),
    "two that differ": (lambda a: {**a, "bn1.bias": np.ones(64, np.float32)}, {}, "two that differ"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_network_is_refused_with_what_differs(name, resnet, tmp_path):
    change, options, message = REFUSED[name]
    file = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({key: array.copy() for key, array in change(resnet[1]).items()}, file)
    given = {"backbone": "resnet18", "hash_layer": "hash_layer", "image_size": 64, **options}
    with pytest.raises(ValueError, match=message):
        hashing_model_from_torch(file, **given)
