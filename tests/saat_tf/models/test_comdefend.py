"""ComDefend: the purifier's loss and bits against NumPy, and a purified model that an attack can see through."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.models import HashingModel, PurifiedModel, Purifier
from saat_tf.models.comdefend import bits
from saat_tf.random_numbers import normal


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(0).random((4, 16, 16, 3), np.float32))


@pytest.fixture(scope="module")
def purifier():
    keras.utils.set_random_seed(0)
    return Purifier()


def test_bits_are_bits_with_the_slope_of_their_mean_under_the_noise():
    logits = np.float32([-50.0, -7.0, -0.1, 0.3, 11.0, 80.0])
    with tf.GradientTape() as tape:
        z = tf.constant(logits)
        tape.watch(z)
        codes = bits(z, 20.0)
    np.testing.assert_array_equal(codes, [0, 0, 0, 1, 1, 1])
    # The mean of 1[z - n > 0], differentiated by hand: the density of n at z.
    density = [math.exp(-((v / 20) ** 2) / 2) / (20 * math.sqrt(2 * math.pi)) for v in logits]
    np.testing.assert_allclose(tape.gradient(codes, z), density, rtol=1e-4, atol=1e-7)
    drawn = np.random.default_rng(0).normal(0, 20, 200_000)
    slope = (np.mean(16 - drawn > 0) - np.mean(6 - drawn > 0)) / 10
    assert density[4] == pytest.approx(slope, rel=0.05)


def test_a_step_descends_on_the_published_loss(purifier, images):
    keras.utils.set_random_seed(0)
    trained = Purifier(seed=7)
    trained.compile(keras.optimizers.SGD(0.0))
    noise = normal((4, 16, 16, 12), [7, 0], stddev=20.0).numpy()
    codes = 1 / (1 + np.exp(-(trained.compressor(images).numpy() - noise)))
    drawn = trained.reconstructor(tf.constant(codes)).numpy()
    expected = np.mean((drawn - images.numpy()) ** 2) + 1e-4 * np.mean(codes**2)
    assert float(trained.train_step((images, None, None))["loss"]) == pytest.approx(expected, rel=1e-4)


def test_the_layers_are_the_published_ones(purifier):
    channels = [
        [layer.filters for layer in part.layers if hasattr(layer, "filters")]
        for part in (purifier.compressor, purifier.reconstructor)
    ]
    assert channels == [[16, 32, 64, 128, 256, 128, 64, 32, 12], [32, 64, 128, 256, 128, 64, 32, 16, 3]]
    purified = purifier(tf.random.uniform((1, 8, 8, 3)))
    assert purified.shape == (1, 8, 8, 3) and 0 <= float(tf.reduce_min(purified)) <= float(tf.reduce_max(purified)) <= 1


@pytest.mark.slow
def test_a_purified_model_is_the_encoder_after_the_purifier(purifier, images, tmp_path):
    encoder = HashingModel("small_cnn", 16, 16)
    model = PurifiedModel.from_parts(purifier, encoder)
    np.testing.assert_allclose(model.logits(images), encoder.logits(purifier(images)), atol=1e-5)
    np.testing.assert_array_equal(model.encode(images), encoder.encode(purifier(images)))
    np.testing.assert_array_equal(model(images, alpha=2.0), model(images, alpha=2.0))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert isinstance(loaded, PurifiedModel)
    np.testing.assert_array_equal(loaded.logits(images), model.logits(images))


def test_an_attack_sees_through_the_purifier(purifier, images):
    model = PurifiedModel.from_parts(purifier, HashingModel("small_cnn", 16, 16))
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(model(images))
    slopes = np.abs(tape.gradient(total, images))
    assert np.isfinite(slopes).all() and np.mean(slopes > 0) > 0.99


@pytest.mark.parametrize("noise_std", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_that_cannot_be_is_refused(noise_std):
    with pytest.raises(ValueError, match="noise_std"):
        Purifier(noise_std=noise_std)
