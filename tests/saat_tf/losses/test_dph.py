"""The pairwise loss DPH."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import DMFL, CodeBank
from saat_tf.losses import DPH
from saat_tf.losses.dph import dph_loss, dph_loss_of_bank


def random_case(seed, rows=3, items=5, code_length=4, num_classes=4):
    rng = np.random.default_rng(seed)
    h, u = rng.uniform(-1, 1, (rows, code_length)), rng.uniform(-1, 1, (items, code_length))
    labels, bank_labels = (rng.random((n, num_classes)) < 0.4 for n in (rows, items))
    return h, u, labels.astype(float), bank_labels.astype(float)


def relevance_by_hand(labels, bank_labels):
    return np.array([[float(any(a and b for a, b in zip(x, y, strict=True))) for y in bank_labels] for x in labels])


def dph_by_hand(h, u, s):
    terms = [(sum(h[i] * u[j]) / h.shape[1] - (1 if s[i, j] else -1)) ** 2 for i, j in np.ndindex(s.shape)]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(4))
def test_the_value_is_that_of_the_formula_eagerly_and_in_a_graph(seed):
    h, u, labels, bank_labels = random_case(seed)
    s = relevance_by_hand(labels, bank_labels)
    for function in (dph_loss, tf.function(dph_loss)):
        result = function(tf.constant(h), tf.constant(u), tf.constant(s))
        assert result.shape == ()
        assert float(result) == pytest.approx(dph_by_hand(h, u, s), abs=1e-12)


@pytest.mark.parametrize(
    ("relaxed", "bank", "relevant", "expected"),
    [
        ([1, 1], [1, 1], 1, 0.0),
        ([1, 1], [1, 1], 0, 4.0),
        ([1, 1], [-1, -1], 1, 4.0),
        ([1, 1], [-1, -1], 0, 0.0),
        ([1, 1], [1, -1], 1, 1.0),
        ([0, 0], [1, 1], 0, 1.0),
        ([0.5, 0.5], [1, 1], 1, 0.25),
    ],
)
def test_worked_values(relaxed, bank, relevant, expected):
    assert float(dph_loss(np.float32([relaxed]), np.float32([bank]), np.float32([[relevant]]))) == expected


def test_the_slope_is_that_of_the_formula():
    h, u, labels, bank_labels = random_case(5)
    s = relevance_by_hand(labels, bank_labels)
    expected = np.zeros_like(h)
    for place in np.ndindex(h.shape):
        shift = np.zeros_like(h)
        shift[place] = 1e-6
        expected[place] = (dph_by_hand(h + shift, u, s) - dph_by_hand(h - shift, u, s)) / 2e-6
    variable = tf.constant(h)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = dph_loss(variable, tf.constant(u), tf.constant(s))
    np.testing.assert_allclose(tape.gradient(value, variable).numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("graph", [False, True])
def test_the_loss_of_a_batch_reads_the_relaxed_codes_and_labels_of_the_whole_bank(seed, graph):
    h, u, labels, bank_labels = (np.float32(x) for x in random_case(seed, items=12, code_length=8))
    labels[0] = 0  # wants to be far from every item
    bank_labels[1] = 0
    bank = CodeBank.from_labels(bank_labels, code_length=8)
    bank.update(tf.range(12), tf.constant(u))
    loss = DPH()
    run = (tf.function if graph else (lambda f: f))(lambda x, y: loss(x, y, code_bank=bank))
    expected = dph_by_hand(np.float64(h), np.float64(u), relevance_by_hand(labels, bank_labels))
    assert float(run(tf.constant(h), tf.constant(labels))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "graph", "XLA"])
def test_the_loss_of_a_bank_and_its_slope_stay_those_of_the_formula_through_many_updates(mode):
    rng = np.random.default_rng(7)
    h, _, labels, bank_labels = (np.float32(x) for x in random_case(7, rows=3, items=40, code_length=8))
    bank = CodeBank.from_labels(bank_labels, code_length=8)

    def step(index, codes, h):
        bank.update(index, codes)
        with tf.GradientTape() as tape:
            tape.watch(h)
            value = dph_loss_of_bank(h, tf.constant(labels), bank)
        return value, tape.gradient(value, h)

    run = step if mode == "eager" else tf.function(step, jit_compile=mode == "XLA")
    for _ in range(60):  # some items twice in a batch
        value, slope = run(
            tf.constant(rng.integers(0, 40, 9)), tf.constant(np.float32(rng.uniform(-1, 1, (9, 8)))), tf.constant(h)
        )
    u, s = np.float64(bank.codes.numpy()), relevance_by_hand(labels, bank_labels)
    residual = np.float64(h) @ u.T / 8 - (2 * s - 1)
    assert float(value) == pytest.approx(dph_by_hand(np.float64(h), u, s), rel=1e-6)
    np.testing.assert_allclose(slope.numpy(), 2 * residual @ u / 8 / s.size, rtol=1e-5, atol=1e-8)


def test_near_its_minimum_the_loss_keeps_its_digits():
    bank = CodeBank.from_labels(np.eye(2, dtype=np.float32)[np.arange(5000) % 2], code_length=8)
    bank.update(tf.range(5000), tf.where(tf.range(5000)[:, None] % 2 == 0, 1.0, -1.0) * tf.ones((1, 8)))
    # h.u / K is 1 - 1e-4 for one half of the items and its negative for the other.
    value = dph_loss_of_bank(tf.fill((4, 8), 1.0 - 1e-4), tf.constant([[1.0, 0.0]] * 4), bank)
    assert float(value) == pytest.approx(float(np.float32(1.0) - np.float32(1.0 - 1e-4)) ** 2, rel=1e-5)


def test_neither_update_nor_loss_nor_mainstay_codes_touch_more_with_more_items():
    labels = np.eye(3, dtype=np.float32)[np.arange(997) % 3]
    bank = CodeBank.from_labels(labels, code_length=8)
    dmfl, loss = DMFL(bank), DPH()

    @tf.function
    def book(index, codes, labels):
        bank.update(index, codes)
        return loss(codes, labels, code_bank=bank), dmfl(labels)

    graph = book.get_concrete_function(
        tf.TensorSpec((4,), tf.int32), tf.TensorSpec((4, 8)), tf.TensorSpec((4, 3))
    ).graph
    large = [op.name for op in graph.get_operations() for t in op.outputs if t.shape.rank and 997 in t.shape.as_list()]
    assert not large
    assert any(op.type == "ResourceGather" for op in graph.get_operations())  # which reads rows alone


def test_a_row_without_labels_is_pushed_from_every_item():
    bank = CodeBank.from_labels(np.eye(2, dtype=np.float32), code_length=8)
    bank.update(tf.constant([0, 1]), tf.ones((2, 8)))
    assert float(DPH()(tf.ones((1, 8)), tf.zeros((1, 2)), code_bank=bank)) == 4.0
    assert float(DPH()(-tf.ones((1, 8)), tf.zeros((1, 2)), code_bank=bank)) == 0.0


def test_it_comes_back_from_its_configuration():
    loss = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(DPH()))
    assert type(loss) is DPH
