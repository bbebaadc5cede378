import json
from pathlib import Path

import numpy as np
import pytest

from saat_tf.backbones.efficientnet_lite import (
    efficientnet_lite,
    efficientnet_lite_checkpoint,
    load_efficientnet_lite_weights,
)
from saat_tf.backbones.weights import read_torch_state_dict

ORACLE = json.loads((Path(__file__).parents[2] / "reference" / "efficientnet_lite_oracle.json").read_text())


def pretrained_state_dict(version):
    try:
        path = efficientnet_lite_checkpoint(version)
    except ImportError as error:
        pytest.skip(str(error))
    return read_torch_state_dict(path)


@pytest.fixture(scope="module")
def random_backbone():
    return efficientnet_lite(32, version=0)


def fake_state_dict():
    """What the network's state dict would be, in PyTorch's names and shapes, block by block."""
    arrays = {}
    random = np.random.RandomState(0)

    def conv(name, *shape):
        arrays[f"{name}.weight"] = random.randn(*shape).astype(np.float32)

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{name}.{part}"] = random.rand(channels).astype(np.float32)
        arrays[f"{name}.num_batches_tracked"] = np.array(1)

    conv("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    # input, output channels, kernel, expansion
    blocks = [(32, 16, 3, 1), (16, 24, 3, 6), (24, 24, 3, 6), (24, 40, 5, 6), (40, 40, 5, 6)]
    blocks += [(40, 80, 3, 6), (80, 80, 3, 6), (80, 80, 3, 6), (80, 112, 5, 6), (112, 112, 5, 6), (112, 112, 5, 6)]
    blocks += [(112, 192, 5, 6), (192, 192, 5, 6), (192, 192, 5, 6), (192, 192, 5, 6), (192, 320, 3, 6)]
    for index, (channels, filters, kernel, expansion) in enumerate(blocks):
        wide = channels * expansion
        if expansion > 1:
            conv(f"_blocks.{index}._expand_conv", wide, channels, 1, 1)
            norm(f"_blocks.{index}._bn0", wide)
        conv(f"_blocks.{index}._depthwise_conv", wide, 1, kernel, kernel)
        norm(f"_blocks.{index}._bn1", wide)
        conv(f"_blocks.{index}._project_conv", filters, wide, 1, 1)
        norm(f"_blocks.{index}._bn2", filters)
    conv("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    conv("_fc", 1000, 1280)
    arrays["_fc.bias"] = np.zeros(1000, np.float32)
    return arrays


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [case for case in ORACLE["cases"] if case["image_size"] < 224],
    ids=lambda case: f"lite{case['version']}-{case['image_size']}px",
)
def test_equals_the_pytorch_network(case):
    size, version = case["image_size"], case["version"]
    state_dict = pretrained_state_dict(version)
    backbone = efficientnet_lite(size, version=version)
    load_efficientnet_lite_weights(backbone, state_dict)
    images = ((255.0 * np.random.RandomState(case["seed"]).rand(1, size, size, 3) - 127.0) / 128.0).astype(np.float32)
    features = backbone.predict_on_batch(images)[0]  # (1280,)
    np.testing.assert_allclose(features[::16], case["features"], atol=1e-4)
    np.testing.assert_allclose(features.mean(), case["features_mean"], atol=1e-4)
    np.testing.assert_allclose(features.std(), case["features_std"], atol=1e-4)
    logits = state_dict["_fc.weight"] @ features + state_dict["_fc.bias"]
    assert np.argsort(-logits)[:5].tolist() == case["top_classes"]
    np.testing.assert_allclose(-np.sort(-logits)[:5], case["top_logits"], atol=1e-3)


def test_image_size_limits(random_backbone):
    assert random_backbone.output_shape == (None, 1280)
    with pytest.raises(ValueError, match=r"at least 32 pixels. Received: image_size=31"):
        efficientnet_lite(31, version=0)
    with pytest.raises(ValueError, match=r"one of 0, 1, 2. Received: version=5"):
        efficientnet_lite(32, version=5)


def test_each_tensor_lands_in_its_variable(random_backbone):
    arrays = fake_state_dict()
    load_efficientnet_lite_weights(random_backbone, arrays)
    placed = [variable for layer in random_backbone.layers for variable in layer.variables]
    used = {name: value for name, value in arrays.items() if not name.startswith("_fc") and "num_batches" not in name}
    assert len(placed) == len(used)
    # Every value went somewhere and none twice: the sums, sorted, are the same on both sides.
    sums = sorted(float(np.sum(value, dtype=np.float64)) for value in used.values())
    np.testing.assert_allclose(sorted(float(np.sum(v.numpy(), dtype=np.float64)) for v in placed), sums, rtol=1e-9)
    expand = random_backbone.get_layer("block3_expand_conv").kernel.numpy()
    assert expand[0, 0, 5, 7] == arrays["_blocks.3._expand_conv.weight"][7, 5, 0, 0]
    depthwise = random_backbone.get_layer("block3_depthwise_conv").kernel.numpy()
    assert depthwise[4, 1, 9, 0] == arrays["_blocks.3._depthwise_conv.weight"][9, 0, 4, 1]
    norm = random_backbone.get_layer("block3_project_norm")
    np.testing.assert_array_equal(norm.moving_variance, arrays["_blocks.3._bn2.running_var"])
    np.testing.assert_array_equal(norm.gamma, arrays["_blocks.3._bn2.weight"])


def without(name):
    return lambda arrays: arrays.pop(name)


def with_value(name, value):
    return lambda arrays: arrays.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("_bn0.bias"), r"1 missing: _bn0.bias, 0 left over, 0 unfit"),
        (with_value("_blocks.16._bn1.bias", np.zeros(3)), r"0 missing, 1 left over: _blocks.16._bn1.bias, 0 unfit"),
        (
            with_value("_blocks.0._depthwise_conv.weight", np.zeros((1, 32, 3, 3))),
            r"1 unfit: _blocks.0._depthwise_conv.weight \(float64 \(1, 32, 3, 3\), not float \(32, 1, 3, 3\)\)",
        ),
        (with_value("_bn1.bias", np.zeros((1, 1280))), r"_bn1.bias \(float64 \(1, 1280\), not float \(1280,\)\)"),
        (with_value("_bn1.bias", np.zeros(1280, np.int64)), r"_bn1.bias \(int64 \(1280,\), not float \(1280,\)\)"),
    ],
)
def test_state_dicts_that_do_not_fit_change_nothing(random_backbone, change, message):
    arrays = fake_state_dict()
    change(arrays)
    before = [value.copy() for value in random_backbone.get_weights()]
    with pytest.raises(ValueError, match=message):
        load_efficientnet_lite_weights(random_backbone, arrays)
    for old, new in zip(before, random_backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
