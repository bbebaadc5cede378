"""The hashing losses against their published formulas, written in NumPy pair by pair and row by row."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DCH, DPH, DPN, DPSH, DSDH, HSWD, GreedyHash, HashNet, OrthoHash
from saat_tf.losses.dch import dch_loss
from saat_tf.losses.dpn import balanced_codes, dpn_loss
from saat_tf.losses.dpsh import dpsh_loss
from saat_tf.losses.greedy_hash import greedy_hash_loss
from saat_tf.losses.hashnet import hashnet_loss
from saat_tf.losses.hswd import wasserstein_loss
from saat_tf.losses.orthohash import orthohash_loss, soft_label_loss

ROWS, ITEMS, CLASSES, BITS = 5, 9, 4, 6
PAIRWISE = {"dph": DPH, "dpsh": DPSH, "hashnet": HashNet, "hswd": HSWD, "dsdh": DSDH, "dch": DCH}
BY_CLASS = {"csq": CSQ, "dpn": DPN, "orthohash": OrthoHash, "greedyhash": GreedyHash}
ALL = sorted(PAIRWISE | BY_CLASS)


def make(name):
    return PAIRWISE[name]() if name in PAIRWISE else BY_CLASS[name](CLASSES, BITS, seed=3)


def random_labels(rng, rows, kind):
    if kind == "single-label":
        return np.eye(CLASSES)[rng.integers(CLASSES, size=rows)]
    labels = (rng.random((rows, CLASSES)) < 0.4).astype(float)
    labels[0] = 0
    return labels


class Case:
    """A batch h with labels y, and a bank u with labels, which holds the batch in training and does not here."""

    def __init__(self, seed, kind):
        rng = np.random.default_rng(seed)
        self.h, self.u = rng.uniform(-0.95, 0.95, (ROWS, BITS)), rng.uniform(-1, 1, (ITEMS, BITS))
        self.y, self.bank_y = random_labels(rng, ROWS, kind), random_labels(rng, ITEMS, kind)
        self.b, self.r = rng.choice([-1.0, 1.0], (2, ROWS, BITS))
        self.codebook = rng.choice([-1.0, 1.0], (CLASSES, BITS))
        self.w = rng.normal(size=(BITS, CLASSES))
        self.s = np.array([[float(any(a * b)) for b in self.bank_y] for a in self.y])
        self.batch_s = np.array([[float(any(a * b)) for b in self.y] for a in self.y])


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def dpsh_by_hand(h, u, s, b, eta):
    total = 0.0
    for i, j in np.ndindex(s.shape):
        t = sum(h[i] * u[j]) / 2
        total -= s[i, j] * t - np.log(1 + np.exp(t))
    for i in range(len(h)):
        total += eta * sum((b[i] - h[i]) ** 2)
    return total / s.size


def hashnet_by_hand(h, u, s):
    total, relevant = 0.0, s.sum()
    for i, j in np.ndindex(s.shape):
        t = 10 / h.shape[1] * sum(h[i] * u[j])
        weight = s.size / relevant if s[i, j] else s.size / (s.size - relevant)
        total += weight * (np.log(1 + np.exp(t)) - s[i, j] * t)
    return total / s.size


def wasserstein_by_hand(h, r):
    """Match the values of each bit to the random ones in every order; the cheapest is the Wasserstein distance."""
    orders = [list(order) for order in itertools.permutations(range(len(h)))]
    costs = [min(sum((h[order, k] - r[:, k]) ** 2) for order in orders) for k in range(h.shape[1])]
    return sum(costs) / h.size


def dch_by_hand(h, s, gamma, quantization):
    def distance(a, b):
        return len(a) / 2 * (1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    pairs = [(i, j) for i, j in np.ndindex(s.shape) if i != j]
    relevant = sum(s[pair] for pair in pairs)
    total = 0.0
    for i, j in pairs:
        d = distance(h[i], h[j])
        weight = len(pairs) / relevant if s[i, j] else len(pairs) / (len(pairs) - relevant)
        total += weight * (s[i, j] * np.log(d / gamma) + np.log(1 + gamma / d))
    rows = [np.log(1 + distance(abs(row), np.ones(len(row))) / gamma) for row in h]
    return total / len(pairs) + quantization * sum(rows) / len(rows)


def majority_by_hand(y, codes, tie_code):
    votes = y @ codes
    return np.where(votes == 0, tie_code, np.where(votes > 0, 1.0, -1.0))


def dpn_by_hand(h, t, margin):
    return sum(max(0.0, margin - a * b) for a, b in zip(h.ravel(), t.ravel(), strict=True)) / h.size


def cross_entropy_by_hand(logits, y):
    total = 0.0
    for a, row in zip(logits, y, strict=True):
        for c in np.flatnonzero(row):
            total -= np.log(np.exp(a[c]) / np.exp(a).sum()) / row.sum()
    return total / len(y)


def orthohash_by_hand(v, y, codebook, margin, scale):
    cosines = [[row @ c / np.sqrt((row @ row) * (c @ c)) for c in codebook] for row in v]
    return cross_entropy_by_hand(scale * (np.array(cosines) - margin * y), y)


def cubes_by_hand(h):
    return sum(abs(abs(x) - 1) ** 3 for x in h.ravel()) / h.size


# name -> (the function of h, the formula of h)
FUNCTIONS = {
    "dpsh": (
        lambda c, h: dpsh_loss(h, *map(tf.constant, (c.u, c.s, c.b)), 50.0),
        lambda c, h: dpsh_by_hand(h, c.u, c.s, c.b, 50.0),
    ),
    "hashnet": (
        lambda c, h: hashnet_loss(h, tf.constant(c.u), tf.constant(c.s)),
        lambda c, h: hashnet_by_hand(h, c.u, c.s),
    ),
    "wasserstein": (
        lambda c, h: wasserstein_loss(h, tf.constant(c.r)),
        lambda c, h: wasserstein_by_hand(h, c.r),
    ),
    "dch": (
        lambda c, h: dch_loss(h, tf.constant(c.batch_s), 20.0, 0.1),
        lambda c, h: dch_by_hand(h, c.batch_s, 20.0, 0.1),
    ),
    "dpn": (lambda c, h: dpn_loss(h, tf.constant(c.b), 0.5), lambda c, h: dpn_by_hand(h, c.b, 0.5)),
    "orthohash": (
        lambda c, h: orthohash_loss(h, *map(tf.constant, (c.y, c.codebook)), 0.2, 8.0),
        lambda c, h: orthohash_by_hand(h, c.y, c.codebook, 0.2, 8.0),
    ),
    "soft labels": (
        lambda c, h: soft_label_loss(h[:, :CLASSES], tf.constant(c.y)),
        lambda c, h: cross_entropy_by_hand(h[:, :CLASSES], c.y),
    ),
}


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multi-label", "single-label"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_slope_are_those_of_the_formula(name, kind):
    case = Case(len(name), kind)
    function, by_hand = (lambda h, f=f: f(case, h) for f in FUNCTIONS[name])
    for run in (function, tf.function(function)):
        result = run(tf.constant(case.h))
        assert result.shape == ()
        assert float(result) == pytest.approx(by_hand(case.h), rel=1e-10)
    expected = slopes_by_differences(by_hand, case.h)
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(slopes_of(function, case.h), expected, atol=2e-8)


@pytest.mark.parametrize("kind", ["multi-label", "single-label"])
def test_greedy_hash_hands_the_slope_at_the_sign_on_to_the_code(kind):
    case = Case(4, kind)

    def function(h):
        return greedy_hash_loss(h, tf.constant(case.y), tf.constant(case.w), 0.1)

    expected = cross_entropy_by_hand(sign(case.h) @ case.w, case.y) + 0.1 * cubes_by_hand(case.h)
    for run in (function, tf.function(function)):
        assert float(run(tf.constant(case.h))) == pytest.approx(expected, rel=1e-10)
    through = slopes_by_differences(lambda b: cross_entropy_by_hand(b @ case.w, case.y), sign(case.h))
    penalty = slopes_by_differences(lambda h: 0.1 * cubes_by_hand(h), case.h)
    np.testing.assert_allclose(slopes_of(function, case.h), through + penalty, atol=1e-8)


def value_by_hand(loss, c):
    """The value of a loss object for case c, from labels and codes alone."""
    match type(loss).__name__:
        case "DPH":
            return np.mean((c.h @ c.u.T / BITS - (2 * c.s - 1)) ** 2)
        case "DPSH":
            return dpsh_by_hand(c.h, c.u, c.s, sign(c.h), loss.quantization)
        case "HashNet":
            return hashnet_by_hand(c.h, c.u, c.s)
        case "HSWD":
            r = loss.random_codes(c.h.shape).numpy()
            return hashnet_by_hand(c.h, c.u, c.s) + loss.quantization * wasserstein_by_hand(c.h, r)
        case "DSDH":
            codes = sign(c.u)
            ridge = loss.ridge / loss.classification
            w = np.linalg.inv(codes.T @ codes + ridge * np.eye(BITS)) @ codes.T @ c.bank_y
            b = sign(c.h)
            for k in list(range(BITS)) * 10:
                others = [i for i in range(BITS) if i != k]
                p = c.y @ w[k] + loss.quantization / loss.classification * c.h[:, k]
                b[:, k] = sign(p - b[:, others] @ w[others] @ w[k])
            return dpsh_by_hand(c.h, c.u, c.s, b, loss.quantization)
        case "DCH":
            return dch_by_hand(c.h, c.batch_s, loss.gamma, loss.quantization)
        case "CSQ":
            p = (1 + c.h * majority_by_hand(c.y, loss.class_centers.numpy(), loss.tie_code.numpy())) / 2
            return -np.mean(np.log(p)) + loss.quantization * np.mean((abs(c.h) - 1) ** 2)
        case "DPN":
            targets = majority_by_hand(c.y, loss.class_codes.numpy(), loss.tie_code.numpy())
            return dpn_by_hand(c.h, targets, loss.margin)
        case "OrthoHash":
            gamma, beta = loss.gamma.numpy(), loss.beta.numpy()
            v = gamma * (c.h - c.h.mean(axis=0)) / np.sqrt(c.h.var(axis=0) + 1e-5) + beta
            return orthohash_by_hand(v, c.y, loss.codebook.numpy(), loss.margin, loss.scale)
        case "GreedyHash":
            entropy = cross_entropy_by_hand(sign(c.h) @ loss.projection.numpy(), c.y)
            return entropy + loss.quantization * cubes_by_hand(c.h)


def bank_of(case):
    bank = CodeBank.from_labels(case.bank_y, BITS)
    bank.update(tf.range(ITEMS), tf.constant(case.u))
    return bank


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multi-label", "single-label"])
@pytest.mark.parametrize("name", ALL)
def test_a_loss_of_a_batch_is_the_formula_on_its_labels_and_the_bank(name, kind):
    case, loss = Case(11, kind), make(name)
    for variable in loss.trainable_variables:
        variable.assign(variable + tf.random.stateless_normal(variable.shape, [1, 2], stddev=0.3))
    bank = bank_of(case)
    h, y = tf.constant(case.h, tf.float32), tf.constant(case.y, tf.float32)
    for run in (lambda f: f, tf.function):
        result = run(lambda h, y: loss(h, y, code_bank=bank))(h, y)
        assert float(result) == pytest.approx(value_by_hand(loss, case), rel=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["none", "equal", "own"])
@pytest.mark.parametrize("codes", ["right", "wrong", "equal", "zero"])
@pytest.mark.parametrize("name", ALL)
def test_saturated_and_equal_codes_and_missing_labels_give_finite_numbers(name, codes, labels):
    y = {"none": np.zeros((4, 4)), "equal": np.eye(4)[[1] * 4], "own": np.eye(4)}[labels].astype(np.float32)
    h = np.random.default_rng(0).choice(np.float32([-1, 1]), (4, 256))
    u = {"right": h, "wrong": -h, "equal": np.ones_like(h), "zero": np.zeros_like(h)}[codes]
    h = h if codes == "wrong" else u
    # 256 bits: e^(h.u / 2) is beyond float32.
    loss = PAIRWISE[name]() if name in PAIRWISE else BY_CLASS[name](4, 256)
    bank = CodeBank.from_labels(y, 256)
    bank.update(tf.range(4), tf.constant(u))
    variables = loss.trainable_variables
    h = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(h)
        value = loss(h, tf.constant(y), code_bank=bank)
    slopes = tape.gradient(value, [h, *variables])
    assert np.isfinite(value) and value >= 0
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("name", ALL)
def test_computing_a_loss_changes_nothing_of_it_nor_of_the_bank(name):
    case, loss = Case(2, "multi-label"), make(name)
    bank = bank_of(case)
    before = [v.numpy() for v in (*loss.variables, *bank.variables)]
    first, second = (float(loss(np.float32(case.h), np.float32(case.y), code_bank=bank)) for _ in range(2))
    assert first == second
    for variable, value in zip((*loss.variables, *bank.variables), before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("name", ALL)
def test_a_loss_comes_back_from_its_configuration(name):
    case, loss = Case(5, "multi-label"), make(name)
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(other) is type(loss)
    assert other.get_config() == loss.get_config()
    values = [float(x(np.float32(case.h), np.float32(case.y), code_bank=bank_of(case))) for x in (loss, other)]
    assert values[0] == values[1]


def test_hashnet_sharpens_its_tanh_every_200_steps():
    loss = HashNet()
    assert float(loss.alpha()) == 1
    for steps, square in ((199, 1), (200, 2), (399, 2), (400, 3), (1000, 6)):
        loss.steps.assign(steps - 1)
        loss.advance()
        assert float(loss.alpha()) ** 2 == pytest.approx(square, rel=1e-6)


def test_hswd_draws_fair_codes_anew_in_each_step_and_again_with_the_seed():
    loss, again, other = HSWD(seed=1), HSWD(seed=1), HSWD(seed=2)
    first = loss.random_codes((64, 64)).numpy()
    assert set(np.unique(first)) == {-1.0, 1.0}
    assert abs(first.mean()) < 5 / 64
    np.testing.assert_array_equal(first, again.random_codes((64, 64)))
    assert (first != other.random_codes((64, 64)).numpy()).any()
    loss.advance()
    assert (first != loss.random_codes((64, 64)).numpy()).any()


@pytest.mark.parametrize("code_length", [8, 7])
def test_dpn_gives_each_class_a_code_of_its_own_with_half_of_the_bits_on(code_length):
    codes = balanced_codes(5, code_length, seed=1)
    assert codes.shape == (5, code_length) and codes.dtype == np.float32
    assert ((codes == -1).sum(axis=1) == code_length // 2).all()
    assert ((codes == 1).sum(axis=1) == code_length - code_length // 2).all()
    assert len(np.unique(codes, axis=0)) > 1
    np.testing.assert_array_equal(codes, balanced_codes(5, code_length, seed=1))
    assert (codes != balanced_codes(5, code_length, seed=2)).any()


def test_a_batch_of_one_image_has_no_pairs_for_dch():
    assert float(DCH(quantization=0.0)(tf.fill((1, 8), 0.5), tf.ones((1, 2)), code_bank=None)) == 0
