"""Normalization of pixels inside the model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import PixelNormalization

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((2, 4, 5, 3), np.float32)


def by_hand(images):
    result = np.empty(images.shape)
    for channel in range(3):
        result[..., channel] = (images[..., channel].astype(np.float64) - MEAN[channel]) / STD[channel]
    return result


def test_each_channel_has_its_mean_and_its_deviation_eagerly_and_in_a_graph(images):
    layer = PixelNormalization(MEAN, STD)
    traced = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for function in (layer, traced):
        result = function(tf.constant(images))
        assert result.dtype == tf.float32
        np.testing.assert_allclose(result.numpy(), by_hand(images), atol=1e-5)


def test_the_mean_becomes_zero_and_one_deviation_more_becomes_one():
    pixels = np.float32([MEAN, np.add(MEAN, STD)]).reshape(1, 1, 2, 3)
    result = PixelNormalization(MEAN, STD)(pixels).numpy().reshape(2, 3)
    np.testing.assert_allclose(result, [[0, 0, 0], [1, 1, 1]], atol=1e-6)


def test_the_slope_is_one_over_the_deviation(images):
    layer, pixels = PixelNormalization(MEAN, STD), tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        value = tf.reduce_sum(layer(pixels))
    np.testing.assert_allclose(tape.gradient(value, pixels).numpy(), np.ones_like(images) / STD, rtol=1e-6)


def test_blue_comes_first_on_request_behind_mean_and_deviation(images):
    layer = PixelNormalization(MEAN, STD, channel_order="bgr")
    np.testing.assert_allclose(layer(images), by_hand(images)[..., ::-1], atol=1e-5)
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(other(images), layer(images))
    with tf.GradientTape() as tape:
        tape.watch(pixels := tf.constant(images))
        blue = tf.reduce_sum(layer(pixels)[..., 0])
    np.testing.assert_allclose(tape.gradient(blue, pixels)[0, 0, 0], [0, 0, 1 / STD[2]], rtol=1e-6)


def test_an_unknown_order_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"one of rgb, bgr. Received: 'gbr'"):
        PixelNormalization(MEAN, STD, channel_order="gbr")


def test_turned_channels_run_in_tflite(images):
    inputs = keras.Input(images.shape[1:])
    model = keras.Model(inputs, PixelNormalization(MEAN, STD, channel_order="bgr")(inputs))
    interpreter = tf.lite.Interpreter(model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert())
    interpreter.resize_tensor_input(0, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(result, by_hand(images)[..., ::-1], atol=1e-5)


def test_it_has_no_weights(images):
    layer = PixelNormalization(MEAN, STD)
    layer(images)
    assert layer.weights == []


@pytest.mark.parametrize("std", [[0.2, 0.0, 0.2], [0.2, 0.2, -0.1]])
def test_a_deviation_that_is_not_positive_is_refused(std):
    with pytest.raises(ValueError, match="positive"):
        PixelNormalization(MEAN, std)


@pytest.mark.parametrize("sequence", [list, tuple])
def test_it_comes_back_from_its_configuration(images, sequence):
    layer = PixelNormalization(sequence(MEAN), sequence(STD))
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(other) is PixelNormalization
    np.testing.assert_array_equal(other(images).numpy(), layer(images).numpy())


@pytest.mark.parametrize(
    ("mean", "std"), [([0.5], [0.25]), ([0.5] * 3, [0.25, float("nan"), 0.25]), ([0.5] * 2, [0.25] * 3)]
)
def test_anything_but_three_values_and_positive_spreads_is_refused(mean, std):
    with pytest.raises(ValueError, match="three values"):
        PixelNormalization(mean, std)
