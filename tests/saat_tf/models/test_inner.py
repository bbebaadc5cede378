"""Inner attacks: each against NumPy where h = tanh(x w) can be worked out, and in training on a small network."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.data import array_split, draw_scenes, evaluation_batches
from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.models import ATRDH, SAAT, CgAT, HashingModel
from saat_tf.models.inner import NFGSM, Crafting, Steps, half_radius, stronger
from saat_tf.threat_model import ThreatModel

BITS, SIDE, BATCH = 16, 16, 8
EPSILON = 8 / 255
SEED = tf.constant([3, 4])
PIXELS = SIDE * SIDE * 3


class LinearCodes:
    """h = tanh(alpha x w), whose pixel slopes of mean_k h_k t_k have the signs of w ((1 - h^2) t)."""

    def __init__(self):
        self.weights = np.random.default_rng(0).normal(0, 0.02, (PIXELS, BITS)).astype(np.float32)

    def __call__(self, images, alpha=1.0, training=False):
        return tf.tanh(alpha * tf.matmul(tf.reshape(images, (-1, PIXELS)), self.weights))

    def signs(self, images, wanted):
        h = np.tanh(images.reshape(-1, PIXELS).astype(np.float64) @ self.weights)
        return np.sign(((1 - h**2) * wanted) @ self.weights.T).reshape(images.shape)


def crafting(encoder, index=None, training=False, epsilon=EPSILON):
    ball = ThreatModel(epsilon)
    return Crafting(encoder=encoder, training=training, threat_model=ball, seed=SEED, index=index)


@pytest.fixture(scope="module")
def linear():
    rng = np.random.default_rng(1)
    images = rng.random((4, SIDE, SIDE, 3), np.float32)
    images[0, :4], images[0, 4:8] = 0.0, 1.0  # pixels at both ends of the range
    return types.SimpleNamespace(
        encoder=LinearCodes(), images=images, wanted=rng.choice(np.float32([-1, 1]), (4, BITS))
    )


def test_n_fgsm_steps_once_from_noise_of_twice_the_radius_and_keeps_the_pixel_range_alone(linear):
    noise = tf.random.stateless_uniform(linear.images.shape, SEED, -2 * EPSILON, 2 * EPSILON).numpy()
    start = np.clip(linear.images + noise, 0, 1)
    expected = np.clip(start + EPSILON * linear.encoder.signs(start, linear.wanted), 0, 1)
    found = NFGSM().craft(crafting(linear.encoder), linear.images, linear.wanted).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 2 * EPSILON < np.abs(found - linear.images).max() <= 3 * EPSILON + 1e-6


@pytest.mark.parametrize("num_steps", [2, 3])
def test_two_and_three_steps_go_by_half_the_radius(linear, num_steps):
    step_size = half_radius(ThreatModel(EPSILON))
    found = Steps(num_steps=num_steps, step_size=step_size).craft(
        crafting(linear.encoder), linear.images, linear.wanted
    )
    x = linear.images + tf.random.stateless_uniform(linear.images.shape, SEED, -EPSILON, EPSILON).numpy()
    for _ in range(num_steps):
        x = np.clip(x, np.maximum(linear.images - EPSILON, 0), np.minimum(linear.images + EPSILON, 1))
        x = x + EPSILON / 2 * linear.encoder.signs(x, linear.wanted)
    x = np.clip(x, np.maximum(linear.images - EPSILON, 0), np.minimum(linear.images + EPSILON, 1))
    np.testing.assert_allclose(found, x, atol=1e-6)


@pytest.mark.parametrize("inner, steps, size", [(NFGSM(), 2, 0.05), (Steps(num_steps=3, step_size=0.01), 6, 0.01)])
def test_a_misled_attack_gives_way_to_twice_its_passes(inner, steps, size):
    assert stronger(inner, ThreatModel(0.1)) == Steps(num_steps=steps, step_size=size)


INNERS = {
    "pgd-2": lambda: Steps(num_steps=2, step_size=EPSILON / 2),
    "n-fgsm": NFGSM,
}


@pytest.fixture(scope="module")
def split():
    scenes = draw_scenes(20, image_size=SIDE, seed=3)
    return array_split(scenes.images, scenes.labels)


def make(split, inner, kind=SAAT, **options):
    keras.utils.set_random_seed(1)
    encoder = HashingModel("small_cnn", BITS, SIDE)
    training = kind(encoder, CodeBank.from_labels(split.labels, BITS), DPH(), inner=inner, **options)
    training.compile(optimizer=keras.optimizers.SGD(0.02))
    training.optimizer.build(training.trainable_variables)
    training.fill_bank(evaluation_batches(split, 32))
    return training


def state_of(training):
    return [variable.numpy() for variable in training.training_state()]


@pytest.mark.parametrize("name", INNERS)
def test_a_training_traces_once_a_shape_and_goes_on_from_its_state_to_the_same_bits(name, split):
    whole = make(split, INNERS[name]())
    batches = list(evaluation_batches(split, BATCH))  # 8, 8 and 4 images
    shapes = len({batch[0].shape for batch in batches})
    traces = []

    def steps(training, count, first=0):
        def traced(batch):
            traces.append(batch[0].shape)
            return training.train_step(batch)

        step = tf.function(traced, autograph=False)
        for i in range(first, first + count):
            step(batches[i % len(batches)])

    steps(whole, 4)
    kept = state_of(whole)
    assert len(traces) == shapes
    steps(whole, 2, first=4)
    fresh = make(split, INNERS[name]())
    for variable, value in zip(fresh.training_state(), kept, strict=True):
        variable.assign(value)
    steps(fresh, 2, first=4)
    for ours, theirs in zip(state_of(fresh), state_of(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", [CgAT, ATRDH])
def test_the_other_defences_craft_by_it_too(kind, split):
    training = make(split, NFGSM(), kind)
    batch = next(iter(evaluation_batches(split, BATCH)))
    logs = training.train_step(batch)
    assert np.isfinite([float(value) for value in logs.values()]).all()


@pytest.mark.parametrize("name", INNERS)
def test_a_training_model_saves_its_inner_attack(name, split, tmp_path):
    training = make(split, INNERS[name]())
    training.save(tmp_path / "saat.keras")
    loaded = keras.saving.load_model(tmp_path / "saat.keras", safe_mode=True)
    assert loaded.get_config() == training.get_config() and type(loaded.inner) is type(training.inner)
    for ours, theirs in zip(training.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
