"""Batch norm in one operation against Keras' layer and against the formula in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import BatchNormalization

OPTIONS = {"momentum": 0.9, "epsilon": 1e-5}


def make(kind, channels, **options):
    layer = kind(**{**OPTIONS, **options})
    layer.build((None, None, None, channels))
    layer.gamma.assign(np.linspace(-1, 2, channels))
    layer.beta.assign(np.linspace(0, 1, channels))
    layer.moving_mean.assign(np.full(channels, 0.5))
    return layer


def everything(layer, images, training=True):
    """Return output, slopes of pixels, gamma and beta, and the statistics afterwards."""

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(tf.sin(3.0 * tf.cast(y, tf.float32)))
        return y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

    results = run(images)
    return [*results, tf.convert_to_tensor(layer.moving_mean), tf.convert_to_tensor(layer.moving_variance)]


@pytest.mark.parametrize("shape", [(6, 5, 7, 3), (4, 1, 1, 8), (1, 1, 1, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_keras_computes(shape, training):
    images = tf.random.stateless_normal(shape, (1, 2), mean=3.0, stddev=2.0)
    ours, theirs = (
        everything(make(kind, shape[-1]), images, training)
        for kind in (BatchNormalization, keras.layers.BatchNormalization)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_statistics_are_those_of_the_formula():
    images = np.random.default_rng(0).normal(-2, 3, (5, 4, 3, 2))
    layer = make(BatchNormalization, 2)
    y = layer(tf.constant(images, tf.float32), training=True).numpy()
    mean, variance = images.mean((0, 1, 2)), images.var((0, 1, 2))
    expected = np.linspace(-1, 2, 2) * (images - mean) / np.sqrt(variance + 1e-5) + np.linspace(0, 1, 2)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.9 * 0.5 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance, rtol=1e-5)


def test_in_16_bits_it_counts_in_32():
    images = tf.random.stateless_normal((4, 6, 6, 3), (3, 4), mean=100.0)
    kinds = (BatchNormalization, keras.layers.BatchNormalization)
    half = tf.cast(images, tf.bfloat16)
    ours, theirs = (make(kind, 3, dtype="mixed_bfloat16") for kind in kinds)
    y, other = ours(half, training=True), theirs(half, training=True)
    assert y.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(y, tf.float32), tf.cast(other, tf.float32), atol=0.02)
    np.testing.assert_allclose(ours.moving_variance.numpy(), theirs.moving_variance.numpy(), rtol=1e-4)


def test_a_frozen_layer_normalizes_by_its_moving_statistics():
    layer = make(BatchNormalization, 3)
    layer.trainable = False
    images = tf.ones((2, 2, 2, 3))
    np.testing.assert_array_equal(layer(images, training=True), layer(images, training=False))
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.full(3, 0.5, np.float32))


def test_a_training_step_is_one_operation_each_way():
    layer = make(BatchNormalization, 3)

    @tf.function
    def slopes(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(x, training=True)))
        return tape.gradient(loss, layer.gamma.value)

    names = [
        operation.type for operation in slopes.get_concrete_function(tf.TensorSpec((4, 5, 5, 3))).graph.get_operations()
    ]
    assert names.count("FusedBatchNormV3") == names.count("FusedBatchNormGradV3") == 1


def test_weights_kept_by_keras_layer_go_into_this_one(tmp_path):
    def model(kind):
        return keras.Sequential([keras.Input((4, 4, 3)), kind(**OPTIONS)])

    theirs, ours = model(keras.layers.BatchNormalization), model(BatchNormalization)
    theirs.layers[0].moving_mean.assign([1.0, 2.0, 3.0])
    theirs.save_weights(tmp_path / "kept.weights.h5")
    ours.load_weights(tmp_path / "kept.weights.h5")
    np.testing.assert_array_equal(ours.layers[0].moving_mean.numpy(), [1.0, 2.0, 3.0])
