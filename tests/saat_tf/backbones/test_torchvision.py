"""VGG and ResNet against torchvision: names, shapes and numbers."""

import gc
import hashlib
import json
import math
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest

from saat_tf.backbones import BACKBONES
from saat_tf.backbones import vgg as vgg_module
from saat_tf.backbones.resnet import resnet
from saat_tf.backbones.vgg import vgg

ORACLE = json.loads((Path(__file__).parents[2] / "reference" / "torchvision_oracle.json").read_text())
# torchvision's documentation states these counts, classifier included.
PUBLISHED_PARAMETERS = {
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def build(name, image_size):
    return BACKBONES[name].build(image_size)


def torch_shapes(backbone):
    """Name -> shape of PyTorch's state dict, written down layer by layer."""
    shapes = {}
    for layer in backbone.layers:
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if variable.name == "kernel":
                shape = (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
            shapes[f"{layer.name}.{NORM.get(variable.name, {'kernel': 'weight'}.get(variable.name, 'bias'))}"] = shape
    return shapes


def formula(name, shape, conv_gain):
    """The formula of make_torchvision_oracle.py."""
    numbers = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, 65537).astype(np.float32)
    u = np.resize(numbers, shape)
    if name.endswith(".running_var"):
        return np.float32(0.01) + np.float32(0.005) * u
    if name.endswith(".running_mean"):
        return np.float32(0.02) * u
    if name.endswith(".bias"):
        return np.float32(0.1) * u
    if len(shape) == 1:
        return 1 + np.float32(0.25) * u
    return np.float32((conv_gain if len(shape) == 4 else 1.0) * math.sqrt(6 / math.prod(shape[1:]))) * u


@pytest.fixture
def collected():
    """Free the half gigabyte of a test's model, which refers to itself, before the next test makes its own."""
    yield
    gc.collect()


@pytest.mark.slow
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_names_and_shapes_are_those_of_torchvision(name, monkeypatch):
    def zeros(self, shape, dtype=None):
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)  # 140 million random numbers take long
    backbone = build(name, 64)
    shapes = torch_shapes(backbone)
    expected = ORACLE["shapes"][name]
    assert len(shapes) == expected["tensors"]
    lines = "\n".join(sorted(f"{key} {list(shape)}" for key, shape in shapes.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == expected["digest"]
    if name.startswith("vgg"):  # dropout stands behind both dense layers, not in front as in AlexNet
        assert [layer.name for layer in backbone.layers][-4:] == [f"classifier.{index}" for index in (0, 2, 3, 5)]
    trainable = sum(math.prod(variable.shape) for variable in backbone.trainable_variables)
    assert trainable + (backbone.output_shape[-1] + 1) * 1000 == PUBLISHED_PARAMETERS[name] == expected["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "resnet18", "resnet50"])
def test_numbers_are_those_of_torch(name, monkeypatch):
    monkeypatch.setattr(vgg_module, "DENSE_FEATURES", 256)  # as in the script
    built = None
    for case in [case for case in ORACLE["cases"] if case["network"] == name]:
        size = case["image_size"]
        backbone = build(name, size)
        if built is None:
            conv_gain = 1.0 if name == "vgg11" else 0.1
            state = {key: formula(key, shape, conv_gain) for key, shape in torch_shapes(backbone).items()}
            classifier = "fc" if name.startswith("resnet") else "classifier.6"
            passed_over = {f"{classifier}.weight": np.zeros((1000, 512)), "bn1.num_batches_tracked": np.array(1)}
            BACKBONES[name].load_state_dict(backbone, state | passed_over)
            built = backbone
        else:
            backbone.set_weights(built.get_weights())
        images = np.random.RandomState(case["seed"]).rand(2, size, size, 3).astype(np.float32) * 2 - 1
        features = backbone.predict_on_batch(images)  # in a graph
        scale = case["features_std"]
        np.testing.assert_allclose(features[:, :: features.shape[1] // 32], case["features"], atol=1e-4 * scale)
        np.testing.assert_allclose(features.mean(), case["features_mean"], rtol=1e-4)
        np.testing.assert_allclose(features.std(), case["features_std"], rtol=1e-4)


@pytest.mark.parametrize(("name", "least"), [("vgg11", 32), ("vgg19_bn", 32), ("resnet18", 32), ("resnet152", 32)])
def test_images_below_the_least_size_are_refused(name, least):
    depth = "".join(digit for digit in name if digit.isdigit())
    with pytest.raises(ValueError, match=rf"{depth} .*at least {least} pixels.*Received: image_size=31.*small_cnn"):
        build(name, least - 1)


@pytest.mark.parametrize(("network", "known"), [(vgg, "11, 13, 16, 19"), (resnet, "18, 34, 50, 101, 152")])
def test_an_unknown_depth_is_refused_with_the_known_ones(network, known):
    with pytest.raises(ValueError, match=rf"one of {known}. Received: depth=12"):
        network(32, depth=12)
