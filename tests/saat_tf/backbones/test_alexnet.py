import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.backbones.alexnet import AdaptiveAveragePooling, alexnet

ORACLE = json.loads((Path(__file__).parents[2] / "reference" / "alexnet_oracle.json").read_text())
LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "dense6", "dense7"]


@pytest.fixture(scope="module")
def formula_weights():
    """Parameters of make_alexnet_oracle.py, in the layout of Keras: {layer: [kernel, bias]}."""

    def formula(number, shape):
        scale = 0.1 if len(shape) == 1 else math.sqrt(6 / math.prod(shape[1:]))
        return (scale * np.random.RandomState(number).uniform(-1, 1, shape)).astype(np.float32)

    torch_shapes = [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3)]
    torch_shapes += [(4096, 9216), (4096, 4096)]
    weights = {}
    for index, (layer, shape) in enumerate(zip(LAYERS, torch_shapes, strict=True)):
        kernel = formula(2 * index, shape)
        axes = (2, 3, 1, 0) if len(shape) == 4 else (1, 0)
        weights[layer] = [kernel.transpose(axes), formula(2 * index + 1, shape[:1])]
    return weights


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: f"{case['image_size']}px")
def test_equals_the_pytorch_layout(case, formula_weights):
    size = case["image_size"]
    backbone = alexnet(size)
    for layer, values in formula_weights.items():
        backbone.get_layer(layer).set_weights(values)
    images = np.random.RandomState(case["seed"]).rand(2, size, size, 3).astype(np.float32) * 2 - 1
    features = backbone.predict_on_batch(images)  # in a graph
    assert features.shape == (2, 4096)
    np.testing.assert_allclose(features[:, ::64], case["features"], atol=1e-4)
    np.testing.assert_allclose(features.mean(), case["features_mean"], atol=1e-4)
    np.testing.assert_allclose(features.std(), case["features_std"], atol=1e-4)


def test_smallest_image_and_the_error_below_it():
    assert alexnet(63).output_shape == (None, 4096)
    with pytest.raises(ValueError, match=r"at least 63 pixels.*Received: image_size=62.*small_cnn"):
        alexnet(62)


@pytest.mark.parametrize("sides", [(1, 1), (2, 5), (3, 3), (6, 6), (7, 4), (12, 13)])
@pytest.mark.parametrize("in_graph", [False, True])
def test_pooling_averages_the_cells_of_torch(sides, in_graph):
    height, width = sides
    images = np.random.RandomState(0).rand(2, height, width, 3).astype(np.float32)
    expected = np.empty((2, 6, 6, 3), np.float32)
    for i in range(6):
        for j in range(6):
            rows = slice(math.floor(i * height / 6), math.ceil((i + 1) * height / 6))
            columns = slice(math.floor(j * width / 6), math.ceil((j + 1) * width / 6))
            expected[:, i, j] = images[:, rows, columns].mean((1, 2))
    layer = AdaptiveAveragePooling(6)
    pooled = tf.function(layer)(images) if in_graph else layer(images)
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_pooling_has_gradients_in_a_graph_at_one_pixel():
    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(AdaptiveAveragePooling(6)(images))
        return tape.gradient(total, images)

    np.testing.assert_allclose(gradient(tf.ones((2, 1, 1, 3))), np.full((2, 1, 1, 3), 36.0))


@pytest.mark.parametrize("side", [1, 3, 13])
def test_pooling_runs_in_tflite_with_any_batch_size(side):
    inputs = keras.Input((side, side, 4))
    model = keras.Model(inputs, AdaptiveAveragePooling(6)(inputs))
    images = np.random.RandomState(0).rand(2, side, side, 4).astype(np.float32)
    interpreter = tf.lite.Interpreter(model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert())
    interpreter.resize_tensor_input(0, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    pooled = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(pooled, model(images), atol=1e-6)


def test_pooling_is_made_again_from_its_config():
    layer = AdaptiveAveragePooling(3, name="pool")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (copy.side, copy.name) == (3, "pool")
    with pytest.raises(ValueError, match=r"must be positive. Received: side=0"):
        AdaptiveAveragePooling(0)
