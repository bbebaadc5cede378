"""Sums by subsets of labels: what is kept, and that mainstay codes from them are those of the formula."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf import label_subsets
from saat_tf.label_subsets import apart_from_subsets, subset_keys, worthwhile_subsets
from saat_tf.layers import DMFL, CodeBank
from saat_tf.mainstay import mainstay_codes, mainstay_codes_from_sums

BITS, CLASSES, ITEMS, MOST = 8, 12, 60, 3


def rows_of(sets):
    labels = np.zeros((len(sets), CLASSES), np.float32)
    for row, members in zip(labels, sets, strict=True):
        row[list(members)] = 1
    return labels


def drawn_labels(seed, rows, most=MOST):
    rng = np.random.default_rng(seed)
    return rows_of([rng.choice(CLASSES, rng.integers(0, most + 1), replace=False) for _ in range(rows)])


@pytest.fixture
def subsets_pay(monkeypatch):
    monkeypatch.setattr(label_subsets, "SETS_PER_SUBSET", 1)


@pytest.fixture
def bank(subsets_pay):
    bank = CodeBank.from_labels(drawn_labels(0, ITEMS), BITS)
    assert bank.num_subsets
    return bank


def subsets_by_hand(labels):
    found = set()
    for row in labels:
        members = np.flatnonzero(row).tolist()
        found |= {frozenset(t) for size in range(len(members) + 1) for t in itertools.combinations(members, size)}
    return found


def test_each_subset_that_an_item_carries_has_one_key(subsets_pay):
    labels = np.unique(drawn_labels(0, ITEMS), axis=0)
    keys = worthwhile_subsets(labels, BITS)
    assert len(keys) == len(subsets_by_hand(labels))
    assert (np.diff(keys) > 0).all()


@pytest.mark.parametrize(
    ("sets", "pays"),
    [
        ([(0,), (1,)], False),  # few sets
        ([(c,) for c in range(12)], True),
        ([(*range(6), 6 + c) for c in range(6)] * 200, False),  # an item of seven labels
    ],
)
def test_few_sets_or_large_ones_are_not_split(monkeypatch, sets, pays):
    monkeypatch.setattr(label_subsets, "SETS_PER_SUBSET", 4)
    assert (len(worthwhile_subsets(rows_of(sets), 1)) > 0) == pays


def test_a_table_larger_than_what_it_spares_is_not_kept(subsets_pay):
    pairs = rows_of(list(itertools.combinations(range(CLASSES), 2)))  # 66 sets, 79 subsets
    assert len(worthwhile_subsets(pairs, 8)) == 79
    assert len(worthwhile_subsets(pairs, 1000)) == 0


def test_a_row_with_fewer_labels_has_fewer_subsets():
    keys, carried = subset_keys(tf.constant(rows_of([(), (3,), (3, 7), (3, 7, 9)])), 3)
    assert tf.reduce_sum(tf.cast(carried, tf.int32), axis=1).numpy().tolist() == [1, 2, 4, 8]
    known = [set(row[own].tolist()) for row, own in zip(keys.numpy(), carried.numpy(), strict=True)]
    assert known[0] < known[1] < known[2] < known[3]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "graph", "XLA"])
def test_sums_and_mainstay_codes_are_those_of_the_items_through_many_updates(bank, mode):
    rng = np.random.default_rng(1)
    queries = tf.constant(drawn_labels(2, 20))

    def book(index, codes):
        bank.update(index, codes)
        return mainstay_codes_from_sums(queries, bank.sums())

    run = book if mode == "eager" else tf.function(book, jit_compile=mode == "XLA")
    for _ in range(8):  # some items twice in a batch
        index, relaxed_codes = rng.integers(0, ITEMS, 15), np.float32(rng.uniform(-1, 1, (15, BITS)))
        found = run(tf.constant(index), tf.constant(relaxed_codes))
    labels, codes = drawn_labels(0, ITEMS), np.where(bank.codes.numpy() >= 0, 1.0, -1.0)
    apart = queries.numpy() @ labels.T == 0
    sums, counts = apart_from_subsets(queries, bank.sums().subsets, bank.max_labels)
    np.testing.assert_array_equal(sums, apart @ codes)
    np.testing.assert_array_equal(counts, apart.sum(axis=1))
    expected = mainstay_codes(queries, labels, codes, np.ones(ITEMS))
    np.testing.assert_array_equal(found, expected)
    assert (bank.subset_sums.numpy()[-1] == 0).all()


def test_a_query_with_more_labels_than_any_item_is_answered_too(bank):
    codes = np.random.default_rng(3).uniform(-1, 1, (ITEMS, BITS)).astype(np.float32)
    bank.update(tf.range(ITEMS), tf.constant(codes))
    queries = tf.constant(rows_of([range(5), (1,)]))
    expected = mainstay_codes(queries, drawn_labels(0, ITEMS), np.where(codes >= 0, 1.0, -1.0), np.ones(ITEMS))
    np.testing.assert_array_equal(tf.function(DMFL(bank))(queries), expected)


def test_such_a_bank_comes_back_from_its_configuration_and_its_weights(bank):
    bank.update(tf.constant([4, 9]), -tf.ones((2, BITS)))
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(bank))
    other.set_weights(bank.get_weights())
    queries = tf.constant(drawn_labels(5, 20))
    np.testing.assert_array_equal(DMFL(other)(queries), DMFL(bank)(queries))


def test_mainstay_codes_touch_no_more_with_more_label_sets(bank):
    specs = tf.TensorSpec((4,), tf.int32), tf.TensorSpec((4, BITS)), tf.TensorSpec((4, CLASSES))

    @tf.function
    def book(index, codes, labels):
        bank.update(index, codes)
        return mainstay_codes_from_sums(labels, bank.sums())

    graph = book.get_concrete_function(*specs).graph
    (choice,) = [op for op in graph.get_operations() if op.type in ("If", "StatelessIf")]
    always = [*graph.get_operations(), *graph._get_function(choice.get_attr("then_branch").name).graph.get_operations()]
    sizes = {size for op in always for t in op.outputs if t.shape.rank for size in t.shape.as_list()}
    assert bank.num_label_sets not in sizes and bank.num_subsets + 1 not in sizes
    assert CLASSES in sizes
