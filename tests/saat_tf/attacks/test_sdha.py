"""SDHA: its objective by a loop over items and bits, its slope by differences, its settings."""

import math

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import AdamStep, sdha_attack
from saat_tf.attacks.schedules import rising_alphas
from saat_tf.attacks.sdha import mean_distance, sdha_objective
from saat_tf.layers import CodeBank


def weights_by_hand(h, items):
    """D_H(sign h, r)^-1/2 for each item; these are held constant when the objective is differentiated."""
    distances = [sum((1 if x >= 0 else -1) != r for x, r in zip(h, item, strict=True)) for item in items]
    return [(d + 1e-8) ** -0.5 for d in distances]


def objective_by_hand(h, items, weights):
    """25 / K times the mean over the items of w sum_k ( |h_k - r_k| / 2 s_k + 1 - s_k ), s_k = sigmoid(5 h_k r_k)."""
    total = 0.0
    for item, w in zip(items, weights, strict=True):
        distance = 0.0
        for x, r in zip(h, item, strict=True):
            s = 1 / (1 + math.exp(-5 * x * r))
            distance += abs(x - r) / 2 * s + 1 - s
        total += w * distance
    return 25 / len(h) * total / len(items)


def case(seed, rows=5, num_items=11, bits=8):
    rng = np.random.default_rng(seed)
    h = rng.uniform(-1, 1, (rows, bits)).astype(np.float32)
    codes = rng.choice(np.float32([-1, 1]), (num_items, bits))
    codes[0] = np.sign(h[0])  # an item at distance zero
    relevance = (rng.random((rows, num_items)) < 0.4).astype(np.float32)
    relevance[0, 0] = 1
    relevance[1] = 0  # a query without a relevant item
    clean = rng.choice(np.float32([-1, 1]), (rows, bits))
    return h, {"codes": codes, "relevance": relevance, "clean_codes": clean}


def items_of(goal, row):
    found = goal["codes"][goal["relevance"][row] > 0]
    return (found if len(found) else goal["clean_codes"][row : row + 1]).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_that_of_a_loop_over_items_and_bits(seed):
    h, goal = case(seed)
    expected = []
    for row in range(len(h)):
        items = items_of(goal, row)
        expected.append(objective_by_hand(h[row].tolist(), items, weights_by_hand(h[row].tolist(), items)))
    assert max(expected) > 100  # the item at distance zero has a weight of 10,000
    for function in (sdha_objective, tf.function(sdha_objective)):
        np.testing.assert_allclose(function(tf.constant(h), goal).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_the_slope_is_that_of_the_formula_with_the_weights_held(seed):
    h, goal = case(seed)
    variable = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = sdha_objective(variable, goal)
    result = tape.gradient(value, variable).numpy()
    for row in range(len(h)):
        items, x = items_of(goal, row), h[row].astype(np.float64).tolist()
        weights, expected = weights_by_hand(x, items), []
        for k in range(len(x)):
            up, down = ([v + shift * (j == k) for j, v in enumerate(x)] for shift in (1e-6, -1e-6))
            expected.append((objective_by_hand(up, items, weights) - objective_by_hand(down, items, weights)) / 2e-6)
        np.testing.assert_allclose(result[row], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_score_is_the_mean_relaxed_distance_to_the_relevant_items():
    h, goal = case(3)
    expected = [
        np.mean([[(1 - x * r) / 2 for x, r in zip(h[row], item, strict=True)] for item in items_of(goal, row)])
        for row in range(len(h))
    ]
    np.testing.assert_allclose(mean_distance(tf.constant(h), goal).numpy(), expected, atol=1e-6)


def test_the_settings_are_those_of_the_comparison():
    attack = sdha_attack(8 / 255, CodeBank.from_labels(np.eye(4), 8))
    assert attack.pgd.rule == AdamStep(0.01)
    assert (attack.pgd.num_steps, attack.pgd.random_start, attack.pgd.pixel_weight) == (100, False, 1.0)
    assert attack.pgd.schedule is rising_alphas


def test_the_goal_is_what_the_bank_says_of_the_labels():
    labels = np.float32([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    bank = CodeBank.from_labels(labels, 8)
    codes = np.random.default_rng(0).choice(np.float32([-1, 1]), (3, 8))
    bank.update(tf.range(3), 0.3 * codes)
    encoder = lambda x, alpha, training: tf.tanh(x[:, 0, 0, :1] * tf.ones((1, 8)) - 0.5)  # noqa: E731
    images = np.float32([0.0, 1.0, 1.0])[:, None, None, None] * np.ones((3, 4, 4, 3), np.float32)
    queries = tf.constant([[1.0, 0, 0], [0, 1, 1], [0, 0, 1]])
    goal = sdha_attack(0.1, bank).goal(encoder, tf.constant(images), queries, tf.constant([0, 0]))
    np.testing.assert_array_equal(goal["codes"].numpy(), codes)
    np.testing.assert_array_equal(goal["relevance"].numpy(), [[1, 0, 1], [0, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(goal["clean_codes"].numpy()[:, 0], [-1, 1, 1])
