"""DSDH: the linear map and the discrete codes."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.losses import DSDH
from saat_tf.losses.dsdh import class_projection, discrete_codes


@pytest.mark.parametrize("ridge", [0.1, 5.0])
def test_the_map_is_the_least_squares_solution_of_codes_and_ridge_as_rows(ridge):
    rng = np.random.default_rng(0)
    codes, labels = rng.choice([-1.0, 1.0], (20, 5)), (rng.random((20, 3)) < 0.4).astype(float)
    rows = np.concatenate([codes, np.sqrt(ridge) * np.eye(5)]), np.concatenate([labels, np.zeros((5, 3))])
    expected = np.linalg.lstsq(*rows, rcond=None)[0]
    result = class_projection(tf.constant(codes.T @ codes), tf.constant(codes.T @ labels), ridge)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_two_equal_bits_share_the_weight_exactly():
    codes = np.random.default_rng(1).choice([-1.0, 1.0], (9000, 1)) * np.ones((1, 2))
    labels = (codes[:, :1] + 1) / 2
    products, targets = (np.float32(codes.T @ x) for x in (codes, labels))
    w = class_projection(tf.constant(products), tf.constant(targets), ridge=0.1).numpy()
    assert w[0, 0] == pytest.approx(w[1, 0], rel=1e-6)
    assert 2 * w[0, 0] == pytest.approx(targets[0, 0] / 9000, rel=1e-4)


def objective(b, h, y, w, eta):
    return eta * sum((b - h) ** 2) + sum((y - b @ w) ** 2)


@pytest.mark.parametrize("eta", [0.0, 0.3, 55.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_change_of_one_bit_improves_the_codes_and_none_is_worse_than_the_sign(seed, eta):
    rng = np.random.default_rng(seed)
    h, y, w = rng.uniform(-1, 1, (12, 5)), (rng.random((12, 3)) < 0.5).astype(float), rng.normal(size=(5, 3))
    for run in (discrete_codes, tf.function(discrete_codes)):
        codes = run(tf.constant(h), tf.constant(y), tf.constant(w), eta).numpy()
    assert set(np.unique(codes)) == {-1.0, 1.0}
    for b, row, labels in zip(codes, h, y, strict=True):
        reached = objective(b, row, labels, w, eta)
        assert reached <= objective(np.where(row >= 0, 1.0, -1.0), row, labels, w, eta) + 1e-9
        for k in range(5):
            flipped = np.where(np.arange(5) == k, -b, b)
            assert reached <= objective(flipped, row, labels, w, eta) + 1e-9
        best = min(objective(np.array(c), row, labels, w, eta) for c in itertools.product([-1.0, 1.0], repeat=5))
        assert eta < 55 or reached == pytest.approx(best)


@pytest.mark.parametrize("arguments", [{"ridge": 0.0}, {"classification": -1.0}])
def test_weights_without_a_map_are_refused(arguments):
    with pytest.raises(ValueError, match="must be above 0"):
        DSDH(**arguments)
