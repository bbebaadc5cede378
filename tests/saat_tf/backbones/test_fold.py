"""Folding batch norm: what is computed stays, the norms go, and what cannot be folded is left."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.backbones import backbone_spec
from saat_tf.backbones.fold import folded
from saat_tf.models import HashingModel
from saat_tf.models.comdefend import PurifiedModel, Purifier

# Of logits of size 1. Float32 has 1e-7; some fifty layers add up.
ROUNDING = 1e-5


def with_statistics(model, seed=0):
    """Give batch norms statistics and slopes as training does; the initial ones would hide most errors."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


def norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["plain", "depthwise"])
def test_kernel_and_bias_are_those_worked_out_by_hand(kind, bias, options):
    x = keras.Input((1, 1, 2))
    layer = keras.layers.Conv2D(4, 1, use_bias=bias)
    if kind == "depthwise":
        layer = keras.layers.DepthwiseConv2D(1, depth_multiplier=2, use_bias=bias)
    model = with_statistics(keras.Model(x, keras.layers.BatchNormalization(epsilon=0.1, **options)(layer(x))))
    kernel, *biases = weights = [np.arange(1.0, 1 + w.numpy().size).reshape(w.shape) for w in layer.weights]
    layer.set_weights(weights)
    norm = norms(model)[0]
    values = {weight.name: weight.numpy().astype(np.float64) for weight in norm.weights}
    pixel = np.float64([0.3, -2.0])
    # (2,) @ (2, 4), or channel c times its two multipliers
    y = pixel @ kernel[0, 0] if kind == "plain" else (pixel[:, None] * kernel[0, 0]).reshape(-1)
    y = (y + sum(biases) - values["moving_mean"]) / np.sqrt(values["moving_variance"] + 0.1)
    expected = values.get("gamma", 1.0) * y + values.get("beta", 0.0)

    copy = folded(model)
    assert not norms(copy)
    np.testing.assert_allclose(copy(pixel.reshape(1, 1, 1, 2).astype("float32")).numpy().reshape(-1), expected, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "left"), [("small_cnn", 0), ("efficientnet_lite0", 0), ("resnet18", 0)])
def test_a_folded_backbone_computes_the_same_and_has_no_norm_left(name, left):
    keras.utils.set_random_seed(0)
    model = with_statistics(backbone_spec(name).build(32))
    before = model.get_weights()
    copy = folded(model)
    assert len(norms(copy)) == left
    images = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(copy(images).numpy(), expected, rtol=0, atol=ROUNDING * max(1, np.abs(expected).max()))
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_convolution_with_an_activation_or_another_reader_is_left():
    x = keras.Input((4, 4, 3))
    curved = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 1, activation="relu")(x))
    shared = keras.layers.Conv2D(3, 1)(curved)
    model = with_statistics(keras.Model(x, keras.layers.Add()([keras.layers.BatchNormalization()(shared), shared])))
    assert folded(model) is None
    assert folded(backbone_spec("alexnet").build(64)) is None


@pytest.mark.slow
@pytest.mark.parametrize("purified", [False, True])
def test_a_model_for_inference_has_the_same_logits_and_slopes(purified):
    keras.utils.set_random_seed(1)
    model = HashingModel("small_cnn", 16, 16)
    with_statistics(model.backbone)
    if purified:
        model = PurifiedModel.from_parts(Purifier(), model)
    images = tf.constant(np.random.default_rng(2).random((3, 16, 16, 3), np.float32))
    drawn = random.getstate()
    faster = model.for_inference()
    assert random.getstate() == drawn  # else a run that goes on after an evaluation would draw other numbers
    assert type(faster) is type(model) and faster is not model

    def logits_and_slopes(encoder):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = encoder.logits(images)
        return logits, tape.gradient(logits, images)

    for found, expected in zip(logits_and_slopes(faster), logits_and_slopes(model), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=ROUNDING)


def test_a_model_without_norm_or_of_16_bits_is_its_own_model_for_inference():
    for model in (
        HashingModel("alexnet", 16, 64),
        HashingModel("small_cnn", 16, 16, precision="mixed_bfloat16"),
    ):
        assert model.for_inference() is model
