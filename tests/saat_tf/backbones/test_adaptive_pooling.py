"""Pooling into a fixed number of cells."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.backbones.adaptive_pooling import AdaptiveAveragePooling


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("sides", [(1, 1), (2, 5), (3, 3), (6, 6), (7, 4), (12, 13)])
@pytest.mark.parametrize("in_graph", [False, True])
def test_pooling_averages_the_cells_of_torch(side, sides, in_graph):
    height, width = sides
    images = np.random.RandomState(0).rand(2, height, width, 3).astype(np.float32)
    expected = np.empty((2, side, side, 3), np.float32)
    for i in range(side):
        for j in range(side):
            rows = slice(math.floor(i * height / side), math.ceil((i + 1) * height / side))
            columns = slice(math.floor(j * width / side), math.ceil((j + 1) * width / side))
            expected[:, i, j] = images[:, rows, columns].mean((1, 2))
    layer = AdaptiveAveragePooling(side)
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
