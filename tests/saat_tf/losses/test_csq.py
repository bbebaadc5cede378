"""Central similarity quantization: the centers, their majority, the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.losses import CSQ
from saat_tf.losses.csq import assigned_centers, class_centers, csq_loss


def majority_by_hand(labels, centers, tie_code):
    rows = []
    for y in labels:
        bits = []
        for k, tied in enumerate(tie_code):
            votes = sum(centers[c][k] for c in range(len(y)) if y[c])
            bits.append(tied if votes == 0 else (1.0 if votes > 0 else -1.0))
        rows.append(bits)
    return np.array(rows)


def csq_by_hand(h, c, quantization):
    """Binary cross-entropy in its usual form, with 0/1 targets, and the distance of |h| from 1."""
    p, target = (1 + h) / 2, (1 + c) / 2
    entropy = -np.mean(target * np.log(p) + (1 - target) * np.log(1 - p))
    return entropy + quantization * np.mean((np.abs(h) - 1) ** 2)


def pairwise_distances(centers):
    return [
        sum(a != b for a, b in zip(centers[i], centers[j], strict=True)) for i in range(len(centers)) for j in range(i)
    ]


@pytest.mark.parametrize(
    ("num_classes", "code_length"),
    [(2, 1), (2, 2), (4, 2), (3, 4), (8, 4), (10, 16), (32, 16), (21, 32), (38, 32), (64, 32), (80, 64), (100, 128)],
)
def test_centers_are_codes_at_least_half_of_the_bits_apart(num_classes, code_length):
    centers = class_centers(num_classes, code_length, seed=0)
    assert centers.shape == (num_classes, code_length)
    assert centers.dtype == np.float32
    assert set(np.unique(centers)) <= {-1.0, 1.0}
    assert min(pairwise_distances(centers)) >= code_length / 2


@pytest.mark.parametrize(
    ("num_classes", "code_length", "why"),
    [(33, 16, "more than 2K classes"), (10, 48, "no power of two"), (10, 12, "no power of two"), (129, 64, "too many")],
)
def test_where_no_hadamard_matrix_serves_centers_are_random_and_repeat_with_the_seed(num_classes, code_length, why):
    first, again, other = (class_centers(num_classes, code_length, seed) for seed in (3, 3, 4))
    assert first.shape == (num_classes, code_length)
    assert first.dtype == np.float32
    assert set(np.unique(first)) == {-1.0, 1.0}
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    # Bits are fair: the share of +1 is within 5 standard errors of a half.
    assert abs(first.mean()) < 5 / np.sqrt(first.size)


def test_hadamard_centers_do_not_depend_on_the_seed():
    np.testing.assert_array_equal(class_centers(10, 16, seed=0), class_centers(10, 16, seed=1))


@pytest.mark.parametrize("seed", range(3))
def test_the_center_of_a_label_set_is_the_majority_of_its_centers(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((40, 7)) < 0.35).astype(np.float32)
    labels[0], labels[1] = 0, 1
    centers, tie_code = rng.choice(np.float32([-1, 1]), (7, 12)), rng.choice(np.float32([-1, 1]), 12)
    expected = majority_by_hand(labels, centers, tie_code)
    for function in (assigned_centers, tf.function(assigned_centers)):
        np.testing.assert_array_equal(function(*map(tf.constant, (labels, centers, tie_code))).numpy(), expected)
    np.testing.assert_array_equal(expected[0], tie_code)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0, 0], [1, 1, 1, 1]),
        ([1, 1, 0], [1, -1, 1, -1]),  # bits 2 and 4 are tied: -1 of the tie code
        ([0, 1, 1], [1, -1, 1, -1]),  # bits 2 and 3 are tied
        ([1, 1, 1], [1, 1, 1, -1]),
        ([0, 0, 0], [1, -1, 1, -1]),
    ],
)
def test_tied_bits_are_those_of_the_tie_code(labels, expected):
    centers = np.float32([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1]])
    result = assigned_centers(np.float32([labels]), centers, np.float32([1, -1, 1, -1]))
    assert result.numpy().tolist() == [expected]


@pytest.mark.parametrize("quantization", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_the_value_is_that_of_the_formula_eagerly_and_in_a_graph(quantization, seed):
    rng = np.random.default_rng(seed)
    h, c = rng.uniform(-0.99, 0.99, (5, 8)), rng.choice([-1.0, 1.0], (5, 8))
    expected = csq_by_hand(h, c, quantization)
    for function in (csq_loss, tf.function(csq_loss)):
        result = function(tf.constant(h), tf.constant(c), quantization)
        assert result.shape == ()
        assert float(result) == pytest.approx(expected, abs=1e-12)


def slope_of(h, c, quantization):
    h = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(h)
        value = csq_loss(h, tf.constant(c), quantization)
    return value.numpy(), tape.gradient(value, h).numpy()


def test_the_slope_is_that_of_the_formula():
    rng = np.random.default_rng(4)
    h, c = rng.uniform(0.05, 0.95, (3, 5)) * rng.choice([-1, 1], (3, 5)), rng.choice([-1.0, 1.0], (3, 5))
    expected = np.zeros_like(h)
    for place in np.ndindex(h.shape):
        shift = np.zeros_like(h)
        shift[place] = 1e-6
        expected[place] = (csq_by_hand(h + shift, c, 0.05) - csq_by_hand(h - shift, c, 0.05)) / 2e-6
    np.testing.assert_allclose(slope_of(h, c, 0.05)[1], expected, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrong", [1.0, np.float32(1) - np.float32(2**-24), 0.9999])
def test_saturated_wrong_bits_have_a_finite_loss_and_a_finite_slope(dtype, wrong):
    c = np.ones((2, 4), dtype)
    value, slope = slope_of((-wrong * c).astype(dtype), c, 0.05)
    assert np.isfinite(value)
    assert value > 5  # and no small one: -log of half of 1 - 0.9999 is 9.9
    assert np.isfinite(slope).all()


def test_right_saturated_bits_cost_nothing():
    codes = np.float32([[1, -1, 1, -1]])
    assert slope_of(codes, codes, 0.05)[0] == 0


@pytest.mark.parametrize(("num_classes", "code_length"), [(5, 16), (40, 16), (5, 24)])
def test_the_loss_of_a_batch_draws_each_row_to_the_majority_of_its_centers(num_classes, code_length):
    loss = CSQ(num_classes, code_length, quantization=0.1, seed=2)
    rng = np.random.default_rng(0)
    labels = (rng.random((6, num_classes)) < 0.3).astype(np.float32)
    labels[0] = 0
    h = rng.uniform(-0.9, 0.9, (6, code_length)).astype(np.float32)
    targets = majority_by_hand(labels, class_centers(num_classes, code_length, 2), loss.tie_code.numpy())
    expected = csq_by_hand(np.float64(h), targets, 0.1)
    for function in (loss, tf.function(loss)):
        assert float(function(tf.constant(h), tf.constant(labels), code_bank=None)) == pytest.approx(expected, abs=1e-5)


def test_the_tie_code_is_a_code_that_repeats_with_the_seed():
    first, again, other = (CSQ(4, 64, seed=seed).tie_code.numpy() for seed in (1, 1, 2))
    assert set(np.unique(first)) == {-1.0, 1.0}
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("arguments", [{}, {"quantization": 0.3, "seed": 9}])
@pytest.mark.parametrize("code_length", [16, 24])
def test_it_comes_back_from_its_configuration(code_length, arguments):
    loss = CSQ(5, code_length, **arguments)
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(other) is CSQ
    assert other.get_config() == loss.get_config()
    expected = {"num_classes": 5, "code_length": code_length, "quantization": 0.05, "seed": 0, **arguments}
    assert loss.get_config().items() >= expected.items()
    h, labels = tf.fill((2, code_length), 0.3), tf.constant([[1.0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert float(loss(h, labels, code_bank=None)) == float(other(h, labels, code_bank=None))
