"""The ball of the attacker: its radius, projection into it, random points of it, and the check of what comes back."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.threat_model import ThreatModel, from_255

EPSILON = 8 / 255


@pytest.fixture
def images():
    """Pixels over the whole range, with black and white among them."""
    values = np.random.default_rng(0).random((4, 5, 5, 3), np.float32)
    values[0], values[1] = 0.0, 1.0
    return values


@pytest.mark.parametrize("epsilon", [-1e-9, -1.0, 1.0001, 8, np.nan, np.inf])
def test_a_radius_outside_the_pixel_range_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon must be in"):
        ThreatModel(epsilon)


@pytest.mark.parametrize("value", [-0.1, -8, 255.5, 1000, np.nan, np.inf])
def test_a_value_that_is_no_pixel_step_is_refused(value):
    with pytest.raises(ValueError, match=r"\[0, 255\]"):
        from_255(value)
    with pytest.raises(ValueError, match=r"\[0, 255\]"):
        ThreatModel.from_255(value)


@pytest.mark.parametrize("value", [0, 1, 8, 254.5, 255])
def test_units_of_a_255th_are_converted_by_division(value):
    assert from_255(value) == ThreatModel.from_255(value).epsilon == value / 255


@pytest.mark.parametrize("epsilon", [0.0, EPSILON, 0.3, 1.0])
def test_projection_is_the_nearest_allowed_pixel_eagerly_and_in_a_graph(images, epsilon):
    moved = images + np.random.default_rng(1).normal(0, 0.5, images.shape).astype(np.float32)
    low = np.maximum(images.astype(np.float64) - epsilon, 0)
    high = np.minimum(images.astype(np.float64) + epsilon, 1)
    expected = np.minimum(np.maximum(moved, low), high)
    project = ThreatModel(epsilon).project
    for function in (project, tf.function(project)):
        result = function(tf.constant(moved), tf.constant(images)).numpy()
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(function(tf.constant(result), tf.constant(images)).numpy(), result)


def test_projection_leaves_allowed_images_alone(images):
    inside = np.clip(images + np.random.default_rng(2).uniform(-0.03, 0.03, images.shape), 0, 1).astype(np.float32)
    np.testing.assert_array_equal(ThreatModel(EPSILON).project(inside, images).numpy(), inside)


@pytest.mark.parametrize("epsilon", [0.0, EPSILON, 0.5, 1.0])
def test_a_random_start_is_a_valid_image_of_the_ball(images, epsilon):
    start = ThreatModel(epsilon).random_start(images, tf.constant([1, 2])).numpy()
    assert start.shape == images.shape
    assert start.dtype == np.float32
    assert np.abs(start.astype(np.float64) - images).max() <= epsilon + 1e-6
    assert start.min() >= 0
    assert start.max() <= 1


def test_a_random_start_fills_the_ball_on_both_sides():
    gray = np.full((2, 40, 40, 3), 0.5, np.float32)
    noise = (ThreatModel(EPSILON).random_start(gray, tf.constant([0, 0])).numpy() - gray) / EPSILON
    # 9600 uniform draws: the extremes are within 1 %, the mean within 5 standard errors of 0.
    assert noise.min() < -0.99
    assert noise.max() > 0.99
    assert abs(noise.mean()) < 5 * np.sqrt(1 / 3 / noise.size)
    assert np.abs(noise[0] - noise[1]).max() > 0.5


def test_a_random_start_repeats_with_its_seed_and_only_with_it(images):
    random_start = ThreatModel(EPSILON).random_start
    starts = {seed: random_start(images, tf.constant(seed)).numpy() for seed in [(0, 0), (0, 1), (1, 0), (7, 123456)]}
    for seed, start in starts.items():
        np.testing.assert_array_equal(random_start(images, tf.constant(seed)).numpy(), start)
        in_graph = tf.function(random_start)(images, tf.constant(seed)).numpy()
        np.testing.assert_allclose(in_graph, start, rtol=0, atol=1e-6)
        assert sum(np.array_equal(start, other) for other in starts.values()) == 1


@pytest.mark.parametrize("direction", [-1, 0, 1])
def test_every_corner_of_the_ball_passes_the_check(images, direction):
    threat_model = ThreatModel(EPSILON)
    corner = np.clip(images + np.float32(direction * EPSILON), 0, 1)
    assert threat_model.verify(corner, images) is None
    assert threat_model.verify(threat_model.random_start(images, tf.constant([0, 0])), tf.constant(images)) is None


def changed(pixel, value):
    """Images 0.5 everywhere and a copy with one pixel of another value."""
    images = np.full((2, 3, 3, 3), 0.5, np.float32)
    images[pixel] = np.clip(np.nan_to_num(value, nan=0.5), 0, 1)
    adversarial_images = images.copy()
    adversarial_images[pixel] = value
    return adversarial_images, images


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "not finite"),
        (np.inf, "not finite"),
        (-np.inf, "not finite"),
        (-0.001, r"pixel range \[0, 1\]"),
        (1.001, r"pixel range \[0, 1\]"),
    ],
)
@pytest.mark.parametrize("pixel", [(0, 0, 0, 0), (1, 2, 2, 2)])
def test_one_pixel_that_is_no_pixel_is_found(pixel, value, message):
    with pytest.raises(ValueError, match=message):
        ThreatModel(EPSILON).verify(*changed(pixel, value))


@pytest.mark.parametrize("step", [EPSILON + 1e-5, -EPSILON - 1e-5, 0.4, -0.4])
def test_one_pixel_outside_the_ball_is_found(step):
    images = np.full((2, 3, 3, 3), 0.5, np.float32)
    adversarial_images = images.copy()
    adversarial_images[1, 2, 2, 2] += np.float32(step)
    with pytest.raises(ValueError, match=r"left its ball.*allowed is 0\.031373"):
        ThreatModel(EPSILON).verify(adversarial_images, images)


def test_an_attack_that_returns_too_few_images_is_found_out():
    images = np.full((5, 2, 2, 3), 0.5, np.float32)
    with pytest.raises(ValueError, match="one image for each"):
        ThreatModel.from_255(8).verify(images[:1], images)


def test_clean_images_that_are_not_finite_are_found_out():
    images = np.full((1, 2, 2, 3), 0.5, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        ThreatModel.from_255(8).verify(images, images * np.nan)
