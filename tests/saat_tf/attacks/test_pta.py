"""PTA: the smooth average precision by a double loop, and which items it ranks."""

import math

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import pta, pta_attack
from saat_tf.attacks.pta import smooth_ap
from saat_tf.layers import CodeBank

BITS = 8


def smooth_ap_by_hand(h, codes, relevance, temperature):
    items = [i for i, r in enumerate(relevance) if r >= 0]
    nearness = {i: sum(x * r for x, r in zip(h, codes[i], strict=True)) / len(h) for i in items}
    relevant, total = [i for i in items if relevance[i] > 0], 0.0
    for i in relevant:
        among_relevant, among_all = 1.0, 1.0
        for j in items:
            if j != i:
                ahead = 1 / (1 + math.exp(-max(-500.0, min(500.0, (nearness[j] - nearness[i]) / temperature))))
                among_all += ahead
                among_relevant += ahead * (relevance[j] > 0)
        total += among_relevant / among_all
    return -total / len(relevant) if relevant else 0.0


def average_precision(h, codes, relevance):
    order = sorted((i for i, r in enumerate(relevance) if r >= 0), key=lambda i: -np.dot(h, codes[i]))
    hits = [relevance[i] > 0 for i in order]
    return np.mean([sum(hits[: t + 1]) / (t + 1) for t, hit in enumerate(hits) if hit])


def case(seed, rows=4, num_items=12):
    rng = np.random.default_rng(seed)
    relevance = rng.choice(np.float32([-1, 0, 1]), (rows, num_items))
    relevance[0, :3] = 1, 0, -1
    return (
        rng.uniform(-1, 1, (rows, BITS)).astype(np.float32),
        {"codes": rng.choice(np.float32([-1, 1]), (rows, num_items, BITS)), "relevance": relevance},
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_that_of_a_double_loop(seed):
    h, goal = case(seed)
    goal["relevance"][3] = np.where(goal["relevance"][3] > 0, 0, goal["relevance"][3])  # nothing relevant
    expected = [
        smooth_ap_by_hand(x.tolist(), codes.tolist(), relevance.tolist(), 0.1)
        for x, codes, relevance in zip(h, goal["codes"], goal["relevance"], strict=True)
    ]
    assert expected[3] == 0
    for function in (smooth_ap, tf.function(smooth_ap)):
        np.testing.assert_allclose(function(tf.constant(h), goal).numpy(), expected, atol=1e-6)


def test_at_a_low_temperature_it_is_the_average_precision(monkeypatch):
    monkeypatch.setattr(pta, "TEMPERATURE", 1e-5)
    h, goal = case(5, rows=20)
    nearness = np.einsum("bmk,bk->bm", goal["codes"].astype(np.float64), h) / BITS
    gaps = np.diff(np.sort(nearness, axis=1), axis=1).min(axis=1)
    rows = [row for row in range(20) if gaps[row] > 3e-4 and (goal["relevance"][row] > 0).any()]
    assert len(rows) > 5
    expected = [-average_precision(h[row], goal["codes"][row], goal["relevance"][row]) for row in rows]
    np.testing.assert_allclose(smooth_ap(tf.constant(h), goal).numpy()[rows], expected, atol=1e-5)


def test_the_slope_is_that_of_the_formula():
    h, goal = case(6, rows=3, num_items=7)
    variable = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = smooth_ap(variable, goal)
    result = tape.gradient(value, variable).numpy()
    for row, k in np.ndindex(h.shape):
        values = []
        for shift in (1e-5, -1e-5):
            x = h[row].astype(np.float64)
            x[k] += shift
            values.append(smooth_ap_by_hand(x, goal["codes"][row], goal["relevance"][row], 0.1))
        assert result[row, k] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-5)


def test_a_query_without_a_relevant_item_has_no_slope_and_no_nan():
    h, goal = case(6)
    goal["relevance"] = np.minimum(goal["relevance"], 0)
    variable = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = smooth_ap(variable, goal)
    np.testing.assert_array_equal(tape.gradient(value, variable).numpy(), np.zeros_like(h))


@pytest.mark.parametrize("num_items", [6, 400])
def test_the_items_ranked_are_the_nearest_of_each_kind(num_items):
    rng = np.random.default_rng(num_items)
    labels = np.eye(2, dtype=np.float32)[rng.integers(0, 2, num_items)]
    labels[:2] = np.eye(2)
    codes = rng.choice(np.float32([-1, 1]), (num_items, 16))
    bank = CodeBank.from_labels(labels, 16)
    bank.update(tf.range(num_items), codes)
    clean = rng.choice(np.float32([-1, 1]), (2, 16))
    goal = pta_attack(0.1, bank).goal(
        lambda images, alpha, training: tf.constant(0.5 * clean), tf.zeros((2, 4, 4, 3)), tf.eye(2), [0, 0]
    )
    for row in range(2):
        for mark, limit in ((1, 64), (0, 192)):
            mine = codes[labels[:, row] == mark]
            expected = sorted((mine != clean[row]).sum(axis=1))[:limit]
            found = goal["codes"].numpy()[row][goal["relevance"].numpy()[row] == mark]
            assert sorted((found != clean[row]).sum(axis=1)) == expected
            known = {tuple(code) for code in mine.tolist()}
            assert all(tuple(code) in known for code in found.tolist())


def test_the_settings_are_those_of_the_paper():
    attack = pta_attack(8 / 255, CodeBank.from_labels(np.eye(4), 16))
    assert (attack.pgd.num_steps, attack.pgd.rule.step_size) == (20, 1 / 255)
