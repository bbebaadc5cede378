"""The two parts that SAAT adds to a hashing loss."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.losses import adversarial_loss, quantization_loss


def random_codes(seed, rows=4, code_length=6):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (rows, code_length)), rng.choice([-1.0, 1.0], (rows, code_length))


def adversarial_by_hand(h, b):
    return -sum(float(x * y) for x, y in zip(h.ravel(), b.ravel(), strict=True)) / h.size


def quantization_by_hand(h):
    return sum((x - (1.0 if x >= 0 else -1.0)) ** 2 for x in h.ravel().tolist()) / h.size


def slopes_by_differences(function, h, step=1e-6):
    slopes = np.zeros_like(h)
    for place in np.ndindex(h.shape):
        shift = np.zeros_like(h)
        shift[place] = step
        slopes[place] = (function(h + shift) - function(h - shift)) / (2 * step)
    return slopes


def slopes_of(function, h):
    h = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(h)
        value = function(h)
    return tape.gradient(value, h).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_the_formulas_eagerly_and_in_a_graph(seed):
    h, b = random_codes(seed)
    for wrap in (lambda function: function, tf.function):
        result = wrap(adversarial_loss)(tf.constant(h), tf.constant(b))
        assert result.shape == ()
        assert float(result) == pytest.approx(adversarial_by_hand(h, b), abs=1e-12)
        result = wrap(quantization_loss)(tf.constant(h))
        assert result.shape == ()
        assert float(result) == pytest.approx(quantization_by_hand(h), abs=1e-12)


@pytest.mark.parametrize(
    ("relaxed", "codes", "adversarial", "quantization"),
    [
        ([[1, -1]], [[1, -1]], -1.0, 0.0),
        ([[-1, 1]], [[1, -1]], 1.0, 0.0),
        ([[0, 0]], [[1, -1]], 0.0, 1.0),  # zero is a +1 not reached
        ([[0.5, 0.5]], [[1, 1]], -0.5, 0.25),
        ([[0.5, 0.5], [-0.5, 1]], [[1, -1], [1, 1]], -0.125, 0.1875),
    ],
)
def test_worked_values(relaxed, codes, adversarial, quantization):
    assert float(adversarial_loss(np.float32(relaxed), np.float32(codes))) == adversarial
    assert float(quantization_loss(np.float32(relaxed))) == quantization


def test_slopes_are_those_of_the_formulas():
    h, b = random_codes(7)
    assert np.abs(h).min() > 1e-3  # no code stands where its sign jumps
    expected = slopes_by_differences(lambda x: adversarial_by_hand(x, b), h)
    np.testing.assert_allclose(slopes_of(lambda x: adversarial_loss(x, tf.constant(b)), h), expected, atol=1e-8)
    expected = slopes_by_differences(quantization_by_hand, h)
    np.testing.assert_allclose(slopes_of(quantization_loss, h), expected, atol=1e-8)


def test_a_step_down_the_loss_takes_codes_to_the_mainstay_codes():
    h, b = random_codes(8)
    moved = h - slopes_of(lambda x: adversarial_loss(x, tf.constant(b)), h)
    assert (moved * b > h * b).all()
