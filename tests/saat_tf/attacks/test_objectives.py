"""What attacks maximize: values by NumPy, slopes by differences."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import adaptive_alignment, alignment


def random_codes(seed, rows=9, code_length=16):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (rows, code_length)), rng.choice([-1.0, 1.0], (rows, code_length))


def alignment_by_hand(h, t):
    return np.array([sum(a * b for a, b in zip(x, y, strict=True)) / len(x) for x, y in zip(h, t, strict=True)])


def loss_of_the_authors(h, b):
    """What their attack minimizes to drive h away from b: sum_k 1[s_k > -0.5] (s_k + 2) s_k / m, s = h b."""
    values = []
    for x, y in zip(h, b, strict=True):
        active = [s for s in (x * y).tolist() if s > -0.5]
        values.append(sum((s + 2) * s for s in active) / len(active) if active else 0.0)
    return np.array(values)


def adaptive_by_hand(h, t):
    return -loss_of_the_authors(h, -t)


OBJECTIVES = [(alignment, alignment_by_hand), (adaptive_alignment, adaptive_by_hand)]


@pytest.mark.parametrize(("objective", "oracle"), OBJECTIVES)
@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_the_formula_eagerly_and_in_a_graph(objective, oracle, seed):
    h, t = random_codes(seed)
    for function in (objective, tf.function(objective)):
        np.testing.assert_allclose(function(tf.constant(h), tf.constant(t)).numpy(), oracle(h, t), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_wanting_the_opposite_code_is_minus_the_loss_of_the_authors_attack(seed):
    h, b = random_codes(seed + 10)
    result = adaptive_alignment(tf.constant(h), tf.constant(-b)).numpy()
    np.testing.assert_allclose(result, -loss_of_the_authors(h, b), atol=1e-12)


@pytest.mark.parametrize(
    ("agreement", "plain", "adaptive"),
    [
        ([1, 1], 1.0, 0.0),  # no bit below 0.5
        ([-1, -1], -1.0, -3.0),  # (2 + 1) * -1 each
        ([0, 0], 0.0, 0.0),
        ([0.5, 0.5], 0.5, 0.0),  # 0.5 is wanted by the margin already
        ([0.25, 1], 0.625, 0.4375),  # (2 - 0.25) * 0.25 over one active bit
        ([-1, 0.25], -0.375, -1.28125),  # (-3 + 0.4375) / 2
    ],
)
@pytest.mark.parametrize("wanted", [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])
def test_worked_values(agreement, plain, adaptive, wanted):
    relaxed_codes = tf.constant([np.float32(agreement) * np.float32(wanted)])
    assert float(alignment(relaxed_codes, [wanted])[0]) == plain
    assert float(adaptive_alignment(relaxed_codes, [wanted])[0]) == adaptive


def gradient(objective, h, t):
    h = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(h)
        value = objective(h, tf.constant(t))
    return tape.gradient(value, h).numpy()


@pytest.mark.parametrize(("objective", "oracle"), OBJECTIVES)
def test_slopes_are_those_of_the_formula(objective, oracle):
    h, t = random_codes(20, rows=3, code_length=8)
    assert np.abs(h * t - 0.5).min() > 1e-3  # no bit stands on the step of the adaptive objective
    expected = np.zeros_like(h)
    for i, k in np.ndindex(h.shape):
        shift = np.zeros_like(h)
        shift[i, k] = 1e-6
        expected[i, k] = (oracle(h + shift, t) - oracle(h - shift, t))[i] / 2e-6
    np.testing.assert_allclose(gradient(objective, h, t), expected, atol=1e-7)


@pytest.mark.parametrize("wanted", [-1.0, 1.0])
def test_the_most_wrong_bits_get_the_strongest_push_and_satisfied_bits_none(wanted):
    agreement = np.float32([[-1.0, -0.5, 0.0, 0.49, 0.5, 0.75, 1.0]])
    push = gradient(adaptive_alignment, agreement * wanted, np.full_like(agreement, wanted))[0] * wanted
    # (2 - 2u) over the 4 active bits
    np.testing.assert_allclose(push, [1.0, 0.75, 0.5, 0.255, 0, 0, 0], atol=1e-6)


def test_a_code_that_is_wanted_throughout_has_no_slope_and_no_nan():
    codes = np.float32([[1, -1, 1, -1]])
    np.testing.assert_array_equal(gradient(adaptive_alignment, codes, codes), np.zeros((1, 4)))
