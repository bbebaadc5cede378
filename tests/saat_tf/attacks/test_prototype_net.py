"""Prototype networks: their losses against NumPy, their fit, and what their codes are worth in a ranking."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks.prototype_fit import Budget, descend, distinct_label_sets
from saat_tf.attacks.prototype_net import PrototypeNet, circle_loss, fit_prototype_net, prototype_loss
from saat_tf.attacks.semantic_prototype_net import SemanticPrototypeNet, fit_semantic_prototype_net, likelihood_loss
from saat_tf.codes import pack_codes
from saat_tf.metrics import chance_map, mean_average_precision

CLASSES, BITS = 6, 16


def signs(values):
    return np.where(values >= 0, 1.0, -1.0)


def random_pairs(seed, rows=4, items=7, bits=8):
    rng = np.random.default_rng(seed)
    h, b = rng.uniform(-1, 1, (rows, bits)), rng.choice([-1.0, 1.0], (items, bits))
    return h, b, rng.random((rows, items)) < 0.4


def circle_by_hand(h, b, positive):
    """Loss and slope, pair by pair, in float64."""
    pairs = [(i, j, h[i] @ b[j] / h.shape[1], positive[i, j]) for i in range(len(h)) for j in range(len(b))]
    terms = [-(2 - s) * s if p else (2 + s) * s for _, _, s, p in pairs]
    sums = {kind: sum(np.exp(t) for t, pair in zip(terms, pairs, strict=True) if pair[3] == kind) for kind in (0, 1)}
    product = sums[0] * sums[1]
    slope = np.zeros_like(h)
    for term, (i, j, s, p) in zip(terms, pairs, strict=True):
        share = np.exp(term) / sums[p] * product / (1 + product)
        slope[i] += share * (-(2 - s) if p else 2 + s) * b[j] / h.shape[1] / len(h)
    return np.log1p(product) / len(h), slope


def likelihood_by_hand(h, b, positive):
    t = h @ b.T / 2
    value = -np.mean(positive * t - np.log1p(np.exp(t)))
    return value, (1 / (1 + np.exp(-t)) - positive) @ b / 2 / t.size


def prototype_by_hand(h, b, positive):
    value, slope = circle_by_hand(h, b, positive)
    gaps = h - signs(h)
    return value + 1e-4 * (gaps**2).sum() / len(h), slope + 2e-4 * gaps / len(h)


@pytest.mark.parametrize(
    ("loss", "oracle"),
    [(circle_loss, circle_by_hand), (prototype_loss, prototype_by_hand), (likelihood_loss, likelihood_by_hand)],
)
@pytest.mark.parametrize("seed", range(3))
def test_losses_and_their_slopes_are_those_of_the_formulas(loss, oracle, seed):
    h, b, positive = random_pairs(seed)
    relaxed_codes = tf.constant(h, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(relaxed_codes)
        value = loss(relaxed_codes, tf.constant(b, tf.float32), positive)
    expected, slope = oracle(h, b, positive)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(value, relaxed_codes), slope, rtol=1e-4, atol=1e-7)


def test_worked_values_of_the_circle_loss():
    code = tf.constant([[1.0, 1.0]])
    train = tf.constant([[1.0, 1.0], [-1.0, -1.0]])
    # Right: both terms are -1, softplus(-2). Wrong: both are 3, softplus(6).
    assert float(circle_loss(code, train, [[1, 0]])) == pytest.approx(0.126928, abs=1e-5)
    assert float(circle_loss(code, train, [[0, 1]])) == pytest.approx(6.002476, abs=1e-5)


@pytest.mark.parametrize("relevant", [0, 1])
def test_without_positive_or_without_negative_pairs_the_circle_loss_is_flat(relevant):
    codes = tf.Variable([[0.5, -0.5]])
    with tf.GradientTape() as tape:
        value = circle_loss(codes, tf.ones((3, 2)), tf.fill((1, 3), relevant))
    assert float(value) == 0
    np.testing.assert_array_equal(tape.gradient(value, codes), [[0, 0]])


def test_the_learning_rate_falls_to_a_tenth_after_half_the_steps_and_again_after_three_quarters():
    # A constant slope moves Adam by the learning rate in every step: 4 + 2 / 10 + 2 / 100 of 1e-4.
    variable = keras.Variable(0.0)
    descend([variable], lambda labels: 5.0 * variable, np.eye(2, dtype="float32"), Budget(2, 4, 1, 0), lambda x, *_: x)
    assert float(variable) == pytest.approx(-4.22e-4, rel=1e-3)


def separable(seed, items=120):
    """Items of one or two classes whose codes are the noisy majority of their classes' codes."""
    rng = np.random.default_rng(seed)
    class_codes = np.random.default_rng(0).choice([-1, 1], (CLASSES, BITS))
    labels = np.zeros((items, CLASSES), np.float32)
    for row in labels:
        row[rng.choice(CLASSES, rng.integers(1, 3), replace=False)] = 1
    return signs(labels @ class_codes + rng.normal(0, 1, (items, BITS))).astype(np.float32), labels


def fit(function):
    seen = []

    def track(items, total, description):
        seen.append((total, description))
        return items

    net = function(*separable(1), epochs=2, steps_per_epoch=25, batch_size=16, seed=3, track=track)
    assert seen == [(2, "Fitting prototype network")]
    return net


@pytest.fixture(scope="module")
def circle_net():
    return fit(fit_prototype_net)


@pytest.fixture(scope="module")
def semantic_net():
    return fit(fit_semantic_prototype_net)


@pytest.fixture(params=["circle_net", "semantic_net"])
def fitted(request):
    return request.getfixturevalue(request.param)


@pytest.mark.slow
def test_prototype_codes_find_the_items_of_their_label_set(fitted):
    codes, labels = separable(2)
    targets = distinct_label_sets(labels)
    prototypes = fitted.prototype_codes(targets).numpy()
    assert prototypes.dtype == np.float32
    assert set(np.unique(prototypes)) == {-1, 1}
    database = pack_codes(codes).numpy()
    score = mean_average_precision(pack_codes(prototypes).numpy(), database, targets, labels)
    shuffled = mean_average_precision(pack_codes(prototypes[::-1]).numpy(), database, targets, labels)
    assert score > chance_map(targets, labels) + 0.3
    assert score > shuffled + 0.2


def test_the_second_head_learns_to_read_the_labels_back(semantic_net):
    labels = separable(2)[1]
    scores = semantic_net.recovered_labels(labels).numpy()
    fresh = SemanticPrototypeNet(CLASSES, BITS, seed=3).recovered_labels(labels).numpy()
    gaps = [s[labels == 1].mean() - s[labels == 0].mean() for s in (scores, fresh)]
    assert gaps[0] > abs(gaps[1]) + 0.05
    assert (scores[labels == 1][:, None] > scores[labels == 0]).mean() > 0.75


def test_a_saved_network_gives_the_same_codes(fitted, tmp_path):
    fitted.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert type(loaded) is type(fitted)
    np.testing.assert_array_equal(loaded(np.eye(CLASSES)), fitted(np.eye(CLASSES)))


@pytest.mark.slow
def test_a_seed_repeats_its_network_and_another_gives_another():
    first, again, other = (
        fit_prototype_net(*separable(1), epochs=1, steps_per_epoch=2, batch_size=4, seed=seed).get_weights()
        for seed in (5, 5, 6)
    )
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.abs(first[0] - other[0]).max() > 0


def test_the_fit_leaves_its_arguments_and_the_global_generators_alone():
    codes, labels = separable(1)
    copies, states = (codes.copy(), labels.copy()), np.random.get_state()[1].copy()
    fit_prototype_net(codes, labels, epochs=1, steps_per_epoch=1)
    np.testing.assert_array_equal(codes, copies[0])
    np.testing.assert_array_equal(labels, copies[1])
    np.testing.assert_array_equal(np.random.get_state()[1], states)


def test_layers_have_the_published_sizes():
    shapes = [tuple(w.shape) for w in SemanticPrototypeNet(21, 32).weights]
    assert shapes == [(21, 4096), (4096,), (4096, 512), (512,), (512, 32), (32,), (512, 21), (21,)]
    assert [tuple(w.shape) for w in PrototypeNet(21, 32).weights] == shapes[:-2]


@pytest.mark.parametrize(
    ("codes", "labels", "options", "message"),
    [
        (np.ones((3, 8)), np.eye(2), {}, "one row each"),
        (np.ones(3), np.eye(3), {}, "one row each"),
        (np.uint8([[7], [255]]), np.eye(2), {}, "unpack_codes"),
        (np.full((2, 8), 0.5), np.eye(2), {}, "train_codes"),
        (np.ones((2, 8)), np.full((2, 2), 2), {}, "train_labels"),
        (np.ones((2, 8)), np.zeros((2, 2)), {}, "No training item has a label"),
        (np.ones((2, 8)), np.eye(2), {"epochs": 0}, "at least 1"),
        (np.ones((2, 8)), np.eye(2), {"batch_size": 0}, "at least 1"),
    ],
)
@pytest.mark.parametrize("fit", [fit_prototype_net, fit_semantic_prototype_net])
def test_bad_input_is_refused(fit, codes, labels, options, message):
    with pytest.raises(ValueError, match=message):
        fit(codes, labels, **options)


@pytest.mark.parametrize("shape", [(2, 5), (6,), (1, 2, 6)])
def test_labels_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(items, 6\)"):
        PrototypeNet(CLASSES, BITS).prototype_codes(np.zeros(shape))
