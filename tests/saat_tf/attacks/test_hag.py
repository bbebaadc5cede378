"""HAG: its objective by a loop over bits, its slope by differences, its settings."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import hag_attack
from saat_tf.attacks.hag import hag_objective
from saat_tf.attacks.schedules import rising_alphas


def loss_by_hand(h, clean):
    """(sum over active bits of h b / m + 1)^2 + (mean over all bits of the active h)^2, to be lowered."""
    losses = []
    for row, code in zip(h, clean, strict=True):
        held, balance, active = 0.0, 0.0, 0
        for x, b in zip(row.tolist(), code.tolist(), strict=True):
            if abs(x - b) < 1.5:
                held, balance, active = held + x * b, balance + x, active + 1
        losses.append(((held / active if active else 0.0) + 1) ** 2 + (balance / len(code)) ** 2)
    return np.array(losses)


def case(seed, rows=8, bits=12):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (rows, bits)), rng.choice([-1.0, 1.0], (rows, bits))


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_minus_the_loss_of_the_formula(seed):
    h, clean = case(seed)
    h[0] = -clean[0]  # every bit flipped: none is active
    h[1] = clean[1]
    result = hag_objective(tf.constant(h), tf.constant(-clean)).numpy()
    np.testing.assert_allclose(result, -loss_by_hand(h, clean), atol=1e-12)
    assert result[0] == -1
    assert result[1] == -4 - clean[1].mean() ** 2


def test_the_slope_is_that_of_the_formula():
    h, clean = case(7, rows=4)
    h[0] = -clean[0]
    assert np.abs(np.abs(h - clean) - 1.5).min() > 1e-4
    variable = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = hag_objective(variable, tf.constant(-clean))
    expected = np.zeros_like(h)
    for i, k in np.ndindex(h.shape):
        shift = np.zeros_like(h)
        shift[i, k] = 1e-6
        expected[i, k] = -(loss_by_hand(h + shift, clean) - loss_by_hand(h - shift, clean))[i] / 2e-6
    np.testing.assert_allclose(tape.gradient(value, variable).numpy(), expected, atol=1e-7)
    assert not expected[0].any()


def test_the_settings_are_those_of_the_comparison():
    attack = hag_attack(8 / 255)
    assert (attack.pgd.num_steps, attack.pgd.random_start, attack.pgd.schedule) == (100, False, rising_alphas)
    # 100 times the gradient of a mean over 32 images
    assert (attack.pgd.rule.learning_rate, attack.pgd.rule.momentum) == (3.125, 0.9)


def test_labels_are_not_read():
    encoder = lambda x, alpha, training: tf.tanh(alpha * (tf.reshape(x, (-1, 48)) - 0.5)[:, :16])  # noqa: E731
    images = np.random.default_rng(0).random((2, 4, 4, 3), np.float32)
    attack = hag_attack(8 / 255, num_steps=3)
    results = [attack(encoder, images, labels, tf.constant([0, 0])) for labels in (np.zeros((2, 3)), np.eye(2))]
    np.testing.assert_array_equal(*results)
