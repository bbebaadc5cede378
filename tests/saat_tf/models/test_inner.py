"""Inner attacks: each against NumPy where h = tanh(x w) can be worked out, and in training on a small network."""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf import replicas
from saat_tf.attacks import PGD, alignment
from saat_tf.data import array_split, draw_scenes, evaluation_batches
from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.models import ATRDH, SAAT, CgAT, HashingModel
from saat_tf.models.inner import NFGSM, YOPO, FGSMPrior, Free, InnerStep, Steps, half_radius, stronger
from saat_tf.models.inner.yopo import FirstLayerSteps
from saat_tf.random_numbers import uniform
from saat_tf.threat_model import ThreatModel

pytestmark = pytest.mark.usefixtures("tiny_small_cnn")

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


def inner_step(encoder, index=None, training=False, epsilon=EPSILON):
    ball = ThreatModel(epsilon)
    return InnerStep(encoder=encoder, training=training, threat_model=ball, seed=SEED, index=index)


@pytest.fixture(scope="module")
def linear():
    rng = np.random.default_rng(1)
    images = rng.random((4, SIDE, SIDE, 3), np.float32)
    images[0, :4], images[0, 4:8] = 0.0, 1.0  # pixels at both ends of the range
    return types.SimpleNamespace(
        encoder=LinearCodes(), images=images, wanted=rng.choice(np.float32([-1, 1]), (4, BITS))
    )


def test_n_fgsm_steps_once_from_noise_of_twice_the_radius_and_keeps_the_pixel_range_alone(linear):
    noise = uniform(linear.images.shape, SEED, -2 * EPSILON, 2 * EPSILON).numpy()
    start = np.clip(linear.images + noise, 0, 1)
    expected = np.clip(start + EPSILON * linear.encoder.signs(start, linear.wanted), 0, 1)
    found = NFGSM().perturb(inner_step(linear.encoder), linear.images, linear.wanted).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 2 * EPSILON < np.abs(found - linear.images).max() <= 3 * EPSILON + 1e-6


@pytest.mark.parametrize("num_steps", [2, 3])
def test_two_and_three_steps_go_by_half_the_radius(linear, num_steps):
    step_size = half_radius(ThreatModel(EPSILON))
    found = Steps(num_steps=num_steps, step_size=step_size).perturb(
        inner_step(linear.encoder), linear.images, linear.wanted
    )
    x = linear.images + uniform(linear.images.shape, SEED, -EPSILON, EPSILON).numpy()
    for _ in range(num_steps):
        x = np.clip(x, np.maximum(linear.images - EPSILON, 0), np.minimum(linear.images + EPSILON, 1))
        x = x + EPSILON / 2 * linear.encoder.signs(x, linear.wanted)
    x = np.clip(x, np.maximum(linear.images - EPSILON, 0), np.minimum(linear.images + EPSILON, 1))
    np.testing.assert_allclose(found, x, atol=1e-6)


def project(x, images):
    return np.clip(x, np.maximum(images - np.float32(EPSILON), 0), np.minimum(images + np.float32(EPSILON), 1))


def test_fgsm_prior_begins_where_the_epoch_before_ended_also_in_a_mirror(linear):
    prior = FGSMPrior(num_items=9, image_size=SIDE)
    index = tf.constant([7, 2, 5, 0])
    noise = uniform(linear.images.shape, SEED, -EPSILON, EPSILON).numpy()
    start = project(
        linear.images + EPSILON * np.sign(project(linear.images + noise, linear.images) - linear.images), linear.images
    )
    for epoch in range(3):
        expected = project(start + EPSILON * linear.encoder.signs(start, linear.wanted), linear.images)
        found = prior.perturb(inner_step(linear.encoder, index), linear.images, linear.wanted)
        np.testing.assert_allclose(found, expected, atol=1e-4 * (epoch > 0) + 1e-6)  # what is kept is rounded
        start = found.numpy()
    kept = prior.delta.numpy()
    assert (kept[[1, 3, 4, 6, 8]] == 0).all()
    # Mirrored images meet mirrored perturbations: a step of nothing shows the start.
    mirrored = linear.images[:, :, ::-1]
    flat = lambda images, alpha=1.0, training=False: 0.0 * linear.encoder(images)  # noqa: E731
    shown = prior.perturb(inner_step(flat, index), mirrored, linear.wanted).numpy()
    np.testing.assert_allclose(shown, start[:, :, ::-1], atol=1e-4)
    np.testing.assert_allclose(prior.delta.numpy(), kept, atol=1e-4)


def test_free_moves_one_perturbation_by_the_slopes_of_each_step():
    free, ball = Free(batch_size=3, image_size=2, replays=2), ThreatModel(0.1)
    rng = np.random.default_rng(0)
    delta = np.zeros((3, 2, 2, 3))
    for rows in (3, 3, 2, 3):
        images, slopes = rng.random((rows, 2, 2, 3), np.float32), rng.normal(size=(rows, 2, 2, 3)).astype(np.float32)
        slopes[0, 0, 0] = [np.nan, np.inf, 0.0]
        expected = np.clip(images + delta[:rows], 0, 1)
        found = free.perturb(inner_step(None, epsilon=0.1), images, None)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        signs = np.sign(slopes)
        signs[0, 0, 0] = 0.0
        delta[:rows] = np.clip(delta[:rows] + 0.1 * signs, -0.1, 0.1)
        free.update_from_training(tf.constant(slopes), ball)
    np.testing.assert_allclose(free.delta.numpy(), delta, atol=1e-6)
    with pytest.raises(ValueError, match=r"at most the 3 images.*Received: 4"):
        free.perturb(inner_step(None), np.zeros((4, 2, 2, 3), np.float32), None)


@pytest.mark.parametrize("inner", [Free(batch_size=4, image_size=SIDE), FGSMPrior(num_items=4, image_size=SIDE)])
def test_what_is_kept_in_one_place_is_refused_on_several_replicas(inner, linear, monkeypatch):
    monkeypatch.setattr(replicas, "several", lambda: types.SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(ValueError, match="one replica"):
        inner.perturb(inner_step(linear.encoder, tf.range(4)), linear.images, linear.wanted)


def test_fgsm_prior_needs_to_know_which_images_it_is_given(linear):
    with pytest.raises(ValueError, match="index"):
        FGSMPrior(num_items=4, image_size=SIDE).perturb(inner_step(linear.encoder), linear.images, linear.wanted)


def test_yopo_takes_n_steps_along_the_slope_that_each_of_m_passes_finds(linear):
    rng = np.random.default_rng(5)
    first_weights = rng.normal(0, 0.05, (PIXELS, 12)).astype(np.float32)
    rest_weights = rng.normal(0, 0.3, (12, BITS)).astype(np.float32)
    step_size, x = (
        EPSILON / 3,
        linear.images + uniform(linear.images.shape, SEED, -EPSILON, EPSILON),
    )
    x = project(x.numpy(), linear.images)
    rule = FirstLayerSteps(lambda x: tf.nn.relu(tf.reshape(x, (-1, PIXELS)) @ first_weights), 3, step_size)
    loop = PGD(threat_model=ThreatModel(EPSILON), objective=alignment, rule=rule, num_steps=2)
    found = loop(lambda f, alpha: tf.tanh(alpha * f @ rest_weights), linear.images, linear.wanted, SEED)
    for _ in range(2):
        h = np.tanh(np.maximum(x.reshape(4, -1) @ first_weights, 0) @ rest_weights)
        p = ((1 - h**2) * linear.wanted) @ rest_weights.T
        for _ in range(3):
            on = x.reshape(4, -1) @ first_weights > 0
            x = project(x + np.float32(step_size) * np.sign((on * p) @ first_weights.T).reshape(x.shape), linear.images)
    assert np.mean(np.abs(found.numpy() - x) < 1e-5) > 0.999  # a slope near zero may have either sign


@pytest.mark.parametrize(
    "inner, steps, size",
    [
        (NFGSM(), 2, 0.05),
        (Free(batch_size=1, image_size=2), 2, 0.05),
        (FGSMPrior(num_items=1, image_size=2), 2, 0.05),
        (YOPO(step_size=0.02), 4, 0.05),
        (Steps(num_steps=3, step_size=0.01), 6, 0.01),
    ],
)
def test_a_misled_attack_gives_way_to_twice_its_passes(inner, steps, size):
    assert stronger(inner, ThreatModel(0.1)) == Steps(num_steps=steps, step_size=size)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Free(batch_size=1, image_size=2, replays=0),
        lambda: YOPO(step_size=0.0),
        lambda: YOPO(step_size=0.1, num_steps=0),
    ],
)
def test_numbers_out_of_range_are_refused(build):
    with pytest.raises(ValueError, match="Received"):
        build()


INNERS = {
    "n-fgsm": NFGSM,
    "fgsm-prior": lambda: FGSMPrior(num_items=20, image_size=SIDE),
    "yopo": lambda: YOPO(step_size=EPSILON / 4, num_steps=2),
    "free": lambda: Free(batch_size=BATCH, image_size=SIDE, replays=2),
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


@pytest.mark.slow
@pytest.mark.parametrize("name", INNERS)
def test_a_training_traces_once_a_shape_saves_its_state_and_goes_on_to_the_same_bits(name, split, tmp_path):
    whole = make(split, INNERS[name]())
    batches = list(evaluation_batches(split, BATCH))[1 : 3 if name == "free" else 2]  # 8 images, and 4 for free
    traces = []

    def steps(training, *chosen):
        @functools.partial(tf.function, autograph=False)
        def step(batch):
            traces.append(batch[0].shape)
            return training.train_step(batch)

        for batch in chosen:
            step(batch)
        return step

    step = steps(whole, *batches, *batches)
    assert len(traces) == len(batches)
    whole.save(tmp_path / "saat.keras")
    kept = state_of(whole)
    step(batches[-1])
    assert len(traces) == len(batches)
    fresh = keras.saving.load_model(tmp_path / "saat.keras", safe_mode=True)
    assert fresh.get_config() == whole.get_config() and type(fresh.inner) is type(whole.inner)
    for variable, value in zip(fresh.training_state(), kept, strict=True):
        variable.assign(value)
    steps(fresh, batches[-1])
    for ours, theirs in zip(state_of(fresh), state_of(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_free_moves_pixels_up_the_loss_by_the_step_that_trains_the_weights(split):
    free = INNERS["free"]()
    saat = make(split, free, quantization_weight=0.5)
    saat.optimizer.learning_rate = 0.0
    free.delta.assign(uniform(free.delta.shape, SEED, -EPSILON, EPSILON))
    delta, batch = free.delta.numpy(), next(iter(evaluation_batches(split, BATCH)))
    x = saat.threat_model.project(batch[0] + delta, batch[0])
    saat.train_step(batch)
    wanted = saat.dmfl(batch[1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        codes = saat.encoder(x, training=True)
        loss = -tf.reduce_mean(codes * wanted) + 0.5 * tf.reduce_mean((codes - tf.sign(codes)) ** 2)
    expected = np.clip(delta + EPSILON * np.sign(tape.gradient(loss, x)), -EPSILON, EPSILON)
    assert np.mean(np.abs(free.delta.numpy() - expected) < 1e-6) > 0.999  # a slope near zero may have either sign


def test_yopo_drives_codes_away_inside_the_ball(split):
    saat = make(split, INNERS["yopo"](), inner_training="inference")
    images = next(iter(evaluation_batches(split, BATCH)))[0]
    codes = tf.sign(saat.encoder(images))
    perturbed = saat.perturb(images, -codes)
    saat.threat_model.verify(perturbed.numpy(), images.numpy())
    start = saat.threat_model.random_start(images, saat.step_seed())
    assert tf.reduce_mean(saat.encoder(perturbed) * codes) < tf.reduce_mean(saat.encoder(start) * codes) - 0.01


@pytest.mark.parametrize("kind", [CgAT, ATRDH])
def test_the_other_defenses_use_it_too(kind, split):
    training = make(split, NFGSM(), kind)
    batch = next(iter(evaluation_batches(split, BATCH)))
    logs = training.train_step(batch)
    assert np.isfinite([float(value) for value in logs.values()]).all()
