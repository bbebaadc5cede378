"""The bank of codes and labels: what it reports, what an update sets, how it is saved and shared by replicas."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import DMFL, CodeBank

BITS = 16


def random_labels(seed=0, rows=30, num_classes=5):
    labels = (np.random.default_rng(seed).random((rows, num_classes)) < 0.3).astype(np.float32)
    labels[:3] = 0
    labels[3:6] = labels[6]
    return labels


def random_codes(seed=1, rows=30):
    codes = np.random.default_rng(seed).uniform(-1, 1, (rows, BITS)).astype(np.float32)
    codes[0] = 0.0
    return codes


def filled_bank(labels, codes):
    bank = CodeBank.from_labels(labels, BITS)
    bank.update(tf.range(len(labels)), tf.constant(codes))
    return bank


def sets_by_hand(labels, codes):
    """Label set -> (sum of the signs of its items, number of its items)."""
    found = {}
    for row, code in zip(labels.tolist(), codes, strict=True):
        total, count = found.get(tuple(row), (0, 0))
        found[tuple(row)] = (total + np.where(code >= 0, 1, -1), count + 1)
    return found


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_sums_and_counts_are_those_of_each_distinct_label_set(seed, graph):
    labels, codes = random_labels(seed), random_codes(seed)
    bank = filled_bank(labels, codes)
    sums, counts = (tf.function(f) if graph else f for f in (bank.code_sums, bank.counts))
    expected = sets_by_hand(labels, codes)
    rows = [tuple(row) for row in bank.label_sets.numpy().tolist()]
    assert len(rows) == bank.num_label_sets == len(expected)
    assert set(rows) == set(expected)
    np.testing.assert_array_equal(sums().numpy(), [expected[row][0] for row in rows])
    np.testing.assert_array_equal(counts().numpy(), [expected[row][1] for row in rows])


def test_every_item_points_to_its_own_label_set():
    labels = random_labels(4)
    bank = CodeBank.from_labels(labels, BITS)
    np.testing.assert_array_equal(bank.label_sets.numpy()[bank.set_index.numpy()], labels)


@pytest.mark.parametrize(
    "labels",
    [np.tile(np.float32([[0, 1]]), (9, 1)), np.zeros((4, 3), np.float32), np.ones((1, 1), np.float32)],
    ids=["all alike", "no labels", "one item"],
)
def test_duplicate_labels_are_one_set(labels):
    bank = filled_bank(labels, np.ones((len(labels), BITS), np.float32))
    assert bank.counts().numpy().tolist() == [len(labels)]
    np.testing.assert_array_equal(bank.code_sums().numpy(), np.full((1, BITS), len(labels)))


@pytest.mark.parametrize("graph", [False, True])
def test_relevance_is_a_shared_label(graph):
    labels, queries = random_labels(0), random_labels(9, rows=12)
    bank = CodeBank.from_labels(labels, BITS)
    expected = [[float(any(a and b for a, b in zip(q, y, strict=True))) for y in labels] for q in queries]
    run = tf.function(bank.relevance) if graph else bank.relevance
    np.testing.assert_array_equal(run(tf.constant(queries)).numpy(), expected)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_an_update_sets_its_rows_and_no_other(graph, dtype):
    before, new = random_codes(1), random_codes(2)
    bank = filled_bank(random_labels(), before)
    rows = [7, 0, 29, 12]
    run = tf.function(bank.update) if graph else bank.update
    run(tf.constant(rows, dtype), tf.constant(new[rows]))
    expected = before.copy()
    expected[rows] = new[rows]
    np.testing.assert_array_equal(bank.codes.numpy(), expected)


def test_an_update_with_no_rows_changes_nothing():
    codes = random_codes()
    bank = filled_bank(random_labels(), codes)
    bank.update(tf.zeros((0,), tf.int64), tf.zeros((0, BITS)))
    np.testing.assert_array_equal(bank.codes.numpy(), codes)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [0, 2, 1]])
def test_of_several_rows_for_one_item_the_last_counts(order):
    bank = filled_bank(random_labels(), random_codes())
    index, values = np.array([4, 4, 5])[order], np.float32([-0.25, 0.5, -0.75])[order]
    bank.update(tf.constant(index), tf.constant(np.repeat(values[:, None], BITS, axis=1)))
    last = dict(zip(index.tolist(), values.tolist(), strict=True))
    for item, value in last.items():
        assert bank.codes.numpy()[item].tolist() == [value] * BITS
    check_sums(bank)


def sums_by_label(bank):
    """(label, number of labels) -> the sum of the signs of the items, added up one by one from the codes."""
    labels = bank.label_sets.numpy()[bank.set_index.numpy()]
    sums = np.zeros((bank.num_classes, bank.max_labels, BITS))
    counts = np.zeros((bank.num_classes, bank.max_labels))
    for row, code in zip(labels, bank.codes.numpy(), strict=True):
        for c in np.flatnonzero(row):
            sums[c, int(row.sum()) - 1] += np.where(code >= 0, 1, -1)
            counts[c, int(row.sum()) - 1] += 1
    return sums.reshape(-1, BITS), counts.reshape(-1)


def check_sums(bank):
    """Every running sum is what the codes and labels of the bank add up to."""
    labels = bank.label_sets.numpy()[bank.set_index.numpy()]
    by_set = sets_by_hand(labels, bank.codes.numpy())
    rows = [tuple(row) for row in bank.label_sets.numpy().tolist()]
    np.testing.assert_array_equal(bank.set_sums.numpy(), [by_set[row][0] for row in rows])
    np.testing.assert_array_equal(bank.set_counts.numpy(), [by_set[row][1] for row in rows])
    sums, counts = sums_by_label(bank)
    np.testing.assert_array_equal(bank.label_sums.numpy(), sums)
    np.testing.assert_array_equal(bank.label_counts.numpy(), counts)
    relaxed = np.float64(bank.codes.numpy())
    of_sets = np.stack([relaxed[bank.set_index.numpy() == m].sum(axis=0) for m in range(bank.num_label_sets)])
    np.testing.assert_allclose(bank.relaxed_sums.numpy(), of_sets, atol=1e-12)
    np.testing.assert_allclose(bank.relaxed_products.numpy(), relaxed.T @ relaxed, atol=1e-12)


def test_sums_start_as_those_of_codes_of_plus_one():
    check_sums(CodeBank.from_labels(random_labels(), BITS))


@pytest.mark.parametrize("mode", ["eager", "graph", "XLA"])
def test_running_sums_stay_exact_through_many_updates(mode):
    rng = np.random.default_rng(3)
    bank = CodeBank.from_labels(random_labels(), BITS)
    run = bank.update if mode == "eager" else tf.function(bank.update, jit_compile=mode == "XLA")
    for _ in range(20):
        index = rng.integers(0, 30, 12)  # some items twice
        run(tf.constant(index), tf.constant(rng.uniform(-1, 1, (12, BITS)).astype(np.float32)))
    assert len(set(index.tolist())) < 12
    check_sums(bank)


def test_mainstay_codes_after_many_updates_are_those_of_a_bank_filled_at_once():
    rng = np.random.default_rng(4)
    bank = CodeBank.from_labels(random_labels(), BITS)
    for _ in range(50):
        codes = rng.uniform(-1, 1, (8, BITS)).astype(np.float32)
        bank.update(tf.constant(rng.integers(0, 30, 8)), tf.constant(codes))
    fresh, queries = filled_bank(random_labels(), bank.codes.numpy()), tf.constant(random_labels(6))
    expected = DMFL(fresh)(queries).numpy()
    np.testing.assert_array_equal(DMFL(bank)(queries), expected)
    np.testing.assert_array_equal(tf.function(DMFL(bank), jit_compile=True)(queries), expected)


def test_a_bank_from_label_sets_is_the_bank_from_the_label_rows():
    bank = filled_bank(random_labels(), random_codes())
    other = CodeBank.from_label_sets(bank.label_sets.numpy(), bank.set_index.numpy(), BITS)
    other.update(tf.range(30), bank.codes)
    for values, expected in zip(other.get_weights(), bank.get_weights(), strict=True):
        np.testing.assert_array_equal(values, expected)


def test_more_items_than_float32_can_count_are_refused():
    with pytest.raises(ValueError, match=r"at most 2\^24 = 16777216 items.*Received: 16777217"):
        CodeBank((1 << 24) + 1, 1, 1, 8, max_labels=1)


def test_a_layer_of_lower_precision_reads_the_sums_as_they_are():
    # 4097 codes of -1 and 4095 of +1: in float16, whose integers end at 2048, the majority of two is lost.
    labels = np.ones((8192, 1), np.float32)
    bank = CodeBank.from_labels(labels, 8)
    bank.update(tf.range(4097), -tf.ones((4097, 8)))
    codes = DMFL(bank, dtype="mixed_float16")(tf.ones((1, 1)))
    assert codes.numpy().tolist() == [[-1.0] * 8]


def test_codes_of_lower_precision_are_kept_as_float32():
    bank = CodeBank.from_labels(np.eye(2), BITS)
    bank.update(tf.constant([1]), tf.fill((1, BITS), tf.constant(0.5, tf.float16)))
    assert bank.codes.dtype == "float32"
    np.testing.assert_array_equal(bank.codes.numpy()[1], np.full(BITS, 0.5))


def test_no_gradient_flows_into_the_bank_or_through_it():
    bank = filled_bank(random_labels(), random_codes())
    assert bank.trainable_variables == []
    new, labels = tf.constant(random_codes(3)), tf.constant(random_labels())
    dmfl = DMFL(bank)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([new, labels])
        bank.update(tf.range(30), new)
        readings = {
            "codes": tf.reduce_sum(tf.convert_to_tensor(bank.codes) ** 2),
            "sums": tf.reduce_sum(bank.code_sums() ** 2),
            "mainstay": tf.reduce_sum(dmfl(labels) * 2.0),
        }
    for reading in readings.values():
        assert tape.gradient(reading, new) is None
    # The bank is no trainable variable, so a tape does not watch it by itself either.
    assert not tape.watched_variables()


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.float32([0, 1]),
        np.float32([[0, 2]]),
        np.float32([[0, -1]]),
        np.float32([[0.5, 1]]),
        np.float32([[np.nan, 1]]),
        np.zeros((2, 2, 2)),
    ],
    ids=["no items", "no classes", "a vector", "a two", "a minus", "a half", "a nan", "three axes"],
)
def test_what_is_no_matrix_of_zeros_and_ones_is_refused(labels):
    with pytest.raises(
        ValueError,
        match=r"`labels` must be (rows of 0 and 1, of shape \(items, classes\)|of at least one item and class)",
    ):
        CodeBank.from_labels(labels, BITS)


def test_a_bank_comes_back_from_its_configuration_and_its_weights():
    bank = filled_bank(random_labels(), random_codes())
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(bank))
    assert type(other) is CodeBank
    assert other.get_config() == bank.get_config()
    other.set_weights(bank.get_weights())
    queries = tf.constant(random_labels(5))
    for read in (
        lambda b: b.codes,
        lambda b: b.code_sums(),
        lambda b: b.counts(),
        lambda b: b.relevance(queries),
        lambda b: DMFL(b)(queries),
    ):
        np.testing.assert_array_equal(read(other), read(bank))


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def mixed_precision(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield
    keras.config.set_dtype_policy(before)


def test_a_layer_of_mixed_precision_reads_sums_that_are_exact(mixed_precision):
    # Of 4,000 items for each label, the first bit is +1 in 2,999 and in 3,001. Counted in float16,
    # the first sum is right and the second one stops at 2,048 on its way up; in bfloat16 both stop at 256.
    labels = np.repeat(np.eye(2, dtype=np.float32), 4000, axis=0)
    codes = np.ones((8000, BITS), np.float32)
    codes[:1001, 0] = codes[-999:, 0] = -1
    dmfl = DMFL(filled_bank(labels, codes))
    assert dmfl(tf.eye(2))[:, 0].numpy().tolist() == [-1, 1]


def test_a_bank_is_saved_with_the_weights_of_a_model_that_holds_it(tmp_path):
    class Holder(keras.Model):
        def __init__(self, bank):
            super().__init__()
            self.code_bank = bank
            self.built = True

    bank = filled_bank(random_labels(), random_codes())
    Holder(bank).save_weights(tmp_path / "bank.weights.h5")
    empty = CodeBank.from_config(bank.get_config())
    Holder(empty).load_weights(tmp_path / "bank.weights.h5")
    for name in (
        "codes",
        "label_sets",
        "set_index",
        "set_sums",
        "set_counts",
        "label_sums",
        "label_counts",
        "relaxed_sums",
        "relaxed_products",
    ):
        np.testing.assert_array_equal(getattr(empty, name).numpy(), getattr(bank, name).numpy())
    empty.update(tf.constant([2, 9]), tf.constant(random_codes(7)[[2, 9]]))
    check_sums(empty)


def test_dmfl_comes_back_from_its_configuration_with_a_bank_of_its_size():
    bank = filled_bank(random_labels(), random_codes())
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(DMFL(bank, name="mainstay")))
    assert type(other) is DMFL
    assert other.name == "mainstay"
    assert other.code_bank.get_config() == bank.get_config()


TWO_REPLICAS = """
    import numpy as np
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    from saat_tf.layers import DMFL, CodeBank

    def check(sizes):
        total = sum(sizes)
        labels = np.eye(4, dtype=np.float32)[np.arange(total) % 4]
        codes = np.random.default_rng(0).uniform(-1, 1, (total, 8)).astype(np.float32)
        order = np.random.default_rng(1).permutation(total)
        parts = np.split(order, [sizes[0]])
        with strategy.scope():
            bank = CodeBank.from_labels(labels, 8)
            dmfl = DMFL(bank)

        @tf.function
        def step(index, rows):
            def update(i, r):
                bank.update(i, r)
                return dmfl(tf.eye(4))
            return strategy.run(update, args=(index, rows))

        def share(values):
            return strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(values[context.replica_id_in_sync_group]))

        answers = step(share(parts), share([codes[part] for part in parts]))
        copies = strategy.experimental_local_results(bank.codes.value)
        assert len(copies) == 2, len(copies)
        assert [c.device[-1] for c in copies] == ["0", "1"], [c.device for c in copies]
        for copy in copies:
            np.testing.assert_array_equal(copy.numpy(), codes)
        for table in (bank.set_sums, bank.label_sums, bank.relaxed_sums, bank.relaxed_products):
            first, second = strategy.experimental_local_results(table.value)
            np.testing.assert_array_equal(first, second)
        first, second = strategy.experimental_local_results(answers)
        signs = np.where(codes >= 0, 1.0, -1.0)
        for c in range(4):
            own = np.arange(total) % 4 == c
            score = signs[own].mean(axis=0) - signs[~own].mean(axis=0)
            for answer in (first, second):
                np.testing.assert_array_equal(answer[c], np.where(score >= -1e-12, 1, -1))
        print("every row in both copies", *sizes)

    for sizes in ((20, 20), (20, 13)):
        check(sizes)
"""


@pytest.mark.slow
def test_each_of_two_replicas_gets_the_rows_of_both():
    # A process of its own: logical devices can be set only before TensorFlow starts.
    program = [sys.executable, "-c", textwrap.dedent(TWO_REPLICAS)]
    run = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.splitlines()[-2:] == ["every row in both copies 20 20", "every row in both copies 20 13"]


def test_one_serialized_dmfl_layer_can_be_rebuilt_twice():
    bank = CodeBank.from_labels(np.eye(3, dtype=np.float32), 8)
    serialized = keras.saving.serialize_keras_object(DMFL(bank))
    rebuilt = [keras.saving.deserialize_keras_object(serialized) for _ in range(2)]
    assert [layer.code_bank.code_length for layer in rebuilt] == [8, 8]
