"""What training models are fitted on: arrays, data sets, generators, with an index or without; what is refused."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses import DPH, HashNet
from saat_tf.models import SAAT, HashingModel, HashingTraining
from saat_tf.models.bank_rows import BankRows
from saat_tf.models.fit_data import with_index
from saat_tf.models.inner import FGSMPrior
from tests.small_graphs import small_graphs

BITS, SIZE, ITEMS = 8, 8, 20


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_graphs():
        yield


def made_data():
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.float32)[rng.integers(0, 3, ITEMS)]
    labels[3] = [1, 1, 0]
    labels[7] = 0
    return rng.random((ITEMS, SIZE, SIZE, 3), dtype=np.float32), labels


IMAGES, LABELS = made_data()


def make(kind=HashingTraining, optimizer=None, **options):
    keras.utils.set_random_seed(1)
    training = kind(HashingModel("small_cnn", BITS, SIZE), **options)
    training.compile(optimizer=optimizer or keras.optimizers.SGD(0.1))
    return training


def pairs(*parts, size=8):
    return tf.data.Dataset.from_tensor_slices(parts or (IMAGES, LABELS)).batch(size)


def generated(*batches):
    yield from batches


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 2

    def __getitem__(self, number):
        return tuple(part[10 * number : 10 * number + 10] for part in self.parts)


# What `fit` may be given for the same items: arguments, and what `adapt` needs beside them.
INDEX = np.arange(ITEMS)
ORDER = np.random.default_rng(1).permutation(ITEMS)
FORMS = {
    "arrays": lambda: (IMAGES, LABELS),
    "tensors": lambda: (tf.constant(IMAGES), tf.constant(LABELS)),
    "rows of bool": lambda: (IMAGES, LABELS.astype(bool)),
    "a data set": lambda: (pairs(),),
    "a shuffled data set": lambda: (pairs().unbatch().shuffle(ITEMS).batch(6),),
    "a data set with index": lambda: (pairs(IMAGES[ORDER], LABELS[ORDER], ORDER),),
    "a generator": lambda: (generated((IMAGES[:9], LABELS[:9]), (IMAGES[9:], LABELS[9:])),),
    "a PyDataset with index": lambda: (Batches(IMAGES[ORDER], LABELS[ORDER], ORDER),),
}


def sorted_rows(labels, codes):
    """Labels and codes of items in an order that does not depend on which item is which."""
    rows = np.concatenate([labels, np.round(codes, 4)], axis=1)
    return rows[np.lexsort(rows.T)]


def bank_labels(bank):
    return bank.label_sets.numpy()[bank.set_index.numpy()]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_adapt_fills_the_bank_with_the_codes_of_the_items_and_fit_takes_the_same_data(form):
    training = make()
    training.adapt(*FORMS[form]())
    bank, codes = training.code_bank, training.encoder(IMAGES).numpy()
    if "shuffled" not in form:
        np.testing.assert_allclose(bank.codes, codes, atol=1e-5)
    np.testing.assert_allclose(
        sorted_rows(bank_labels(bank), bank.codes.numpy()), sorted_rows(LABELS, codes), atol=2e-4
    )
    for number, labels in enumerate(bank.label_sets.numpy()):
        own = np.where(codes >= 0, 1, -1)[(labels == LABELS).all(axis=1)]
        np.testing.assert_array_equal(bank.set_sums[number], own.sum(axis=0))
    history = training.fit(*FORMS[form](), verbose=0).history
    assert history["loss"] == history["hashing_loss"] and np.isfinite(history["loss"]).all()
    assert training.optimizer.iterations > 0
    training.adapt(*FORMS[form]())  # the bank that there is gets the codes of now
    np.testing.assert_allclose(
        sorted_rows(LABELS, training.encoder(IMAGES).numpy()),
        sorted_rows(bank_labels(bank), bank.codes.numpy()),
        atol=2e-4,
    )


def test_rows_are_taken_in_turn_as_by_a_queue_for_each_label_set():
    """Compare with queues of rows, of which the first goes to the end as it is taken."""
    bank = CodeBank.from_labels(LABELS, BITS)
    queues = collections.defaultdict(collections.deque)
    for row, labels in enumerate(LABELS):
        queues[tuple(labels)].append(row)
    rows, rng = BankRows.of(bank), np.random.default_rng(2)
    taken = rows.none_taken()
    take = tf.function(rows.take)
    for size in (7, 1, 13, 4, 20):
        batch = LABELS[rng.integers(0, ITEMS, size)]
        taken, found = take(taken, tf.constant(batch))
        expected = []
        for labels in batch:
            expected.append(queues[tuple(labels)][0])
            queues[tuple(labels)].rotate(-1)
        np.testing.assert_array_equal(found, expected)


def test_a_pass_in_any_order_sets_each_row_once():
    training = make()
    training.adapt(IMAGES, LABELS)
    shuffled = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).shuffle(ITEMS, seed=3).batch(6)
    batches = with_index(shuffled, training._check, training.rows_without_index())
    for _ in range(2):  # each pass anew
        rows = [(labels, index) for _, labels, index in batches]
        index = np.concatenate([i.numpy() for _, i in rows])
        assert sorted(index) == list(range(ITEMS))
        np.testing.assert_array_equal(np.concatenate([y.numpy() for y, _ in rows]), LABELS[index])
    assert batches.cardinality() == 4


@pytest.mark.slow
def test_after_an_epoch_the_bank_is_what_it_would_be_by_index():
    """One batch of everything, so that batch statistics do not depend on the order."""
    banks = []
    for data in (pairs(IMAGES, LABELS, INDEX, size=ITEMS), pairs(IMAGES[ORDER], LABELS[ORDER], size=ITEMS)):
        training = make(optimizer=keras.optimizers.SGD(0.0))
        training.adapt(IMAGES, LABELS)
        before = training.code_bank.codes.numpy()
        training.fit(data, verbose=0)
        assert np.abs(training.code_bank.codes - before).max() > 0.01
        banks.append(training.code_bank)
    np.testing.assert_allclose(*(sorted_rows(bank_labels(b), b.codes.numpy()) for b in banks), atol=2e-4)
    np.testing.assert_array_equal(*(b.set_sums for b in banks))


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
def test_of_arrays_an_item_is_known_by_its_place(shuffle):
    training = make(optimizer=keras.optimizers.SGD(0.0))
    training.adapt(IMAGES, LABELS)
    training.fit(IMAGES, LABELS, batch_size=ITEMS, shuffle=shuffle, verbose=0)
    expected = make().encoder(IMAGES, training=True)
    np.testing.assert_allclose(training.code_bank.codes, expected, atol=1e-5)


@pytest.mark.slow
def test_fit_on_arrays_in_order_is_fit_on_batches_with_an_index_to_the_bit():
    states = []
    for data, options in (((IMAGES, LABELS), {"batch_size": 8}), ((pairs(IMAGES, LABELS, INDEX),), {})):
        training = make()
        training.adapt(IMAGES, LABELS)
        training.fit(*data, epochs=2, shuffle=False, verbose=0, **options)
        states.append([variable.numpy() for variable in training.variables])
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_of_data_without_a_cardinality_the_steps_that_had_a_batch_count():
    training = make(hashing_loss=HashNet())
    training.adapt(IMAGES, LABELS)
    unknown = pairs().filter(lambda images, labels: True)
    assert unknown.cardinality() == tf.data.UNKNOWN_CARDINALITY
    history = training.fit(unknown, epochs=2, verbose=0, shuffle=False).history["loss"]
    assert training.optimizer.iterations == 6 and training.hashing_loss.steps == 6
    known = make(hashing_loss=HashNet())
    known.adapt(IMAGES, LABELS)
    assert history == known.fit(pairs(), epochs=2, verbose=0).history["loss"]


def test_steps_per_epoch_of_what_has_no_end():
    training = make()
    endless = pairs().repeat()
    training.adapt(endless, steps=3)
    steps = training.optimizer.iterations
    training.fit(endless, steps_per_epoch=2, epochs=3, verbose=0)
    assert steps == 6
    training.fit(((IMAGES, LABELS) for _ in iter(int, 1)), steps_per_epoch=2, epochs=1, verbose=0)
    assert steps == 8
    training.fit(IMAGES, LABELS, batch_size=4, steps_per_epoch=3, verbose=0)
    assert steps == 11


@pytest.mark.slow
@pytest.mark.parametrize("form", ["arrays", "a data set", "a generator"])
def test_validation_changes_nothing_and_evaluate_is_the_loss_of_the_formula(form):
    training = make()
    training.adapt(IMAGES, LABELS)
    before = [variable.numpy() for variable in training.variables]
    given = {"arrays": (IMAGES[:6], LABELS[:6]), "a data set": (pairs(IMAGES[:6], LABELS[:6], size=3),)}
    found = training.evaluate(*given.get(form, (generated((IMAGES[:6], LABELS[:6])),)), verbose=0, return_dict=True)
    codes, bank = training.encoder(IMAGES[:6]).numpy(), training.code_bank.codes.numpy()
    relevant = (LABELS[:6] @ LABELS.T > 0).astype(float)
    expected = np.mean((codes @ bank.T / BITS - (2 * relevant - 1)) ** 2)
    assert found == {"loss": pytest.approx(expected, abs=1e-5), "hashing_loss": pytest.approx(expected, abs=1e-5)}
    metrics = {id(variable) for variable in training.metric_variables()}
    for variable, value in zip(training.variables, before, strict=True):
        if id(variable) not in metrics:
            np.testing.assert_array_equal(variable, value)
    data = given["a data set"][0] if form == "a data set" else given["arrays"]
    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0)
    history = training.fit(IMAGES, LABELS, epochs=4, validation_data=data, callbacks=[stop], verbose=0).history
    assert len(history["val_loss"]) == len(history["val_hashing_loss"]) == len(history["loss"]) == 2


WRONG = {
    "pixels of 0..255": (lambda: (IMAGES * 255, LABELS), r"outside of \[0, 1\]. Divide pixels of 0..255"),
    "uint8": (lambda: ((IMAGES * 255).astype(np.uint8), LABELS), "must be floats in .* Received: uint8"),
    "another size": (lambda: (IMAGES[:, :4, :4], LABELS), r"\(batch, 8, 8, 3\). Received: float32 of shape"),
    "NaN": (lambda: (np.where(IMAGES > 0.9, np.nan, IMAGES), LABELS), "NaN or infinite"),
    "one image": (lambda: (IMAGES[0], LABELS[0]), "must be"),
    "class numbers": (lambda: (IMAGES, LABELS.argmax(axis=1)), "class numbers by one-hot rows"),
    "twos": (lambda: (IMAGES, LABELS * 2), "rows of 0 and 1.* Received: "),
    "another width": (lambda: (IMAGES, LABELS[:, :2]), "3 columns of the code bank. Received: 2"),
    "unequal numbers": (lambda: (IMAGES, LABELS[:9]), r"as many. Received: shapes \(20, 8, 8, 3\) and \(9, 3\)"),
    "no labels": (lambda: (IMAGES,), "`y` must have the labels"),
    "other items": (lambda: (IMAGES[1:], LABELS[1:]), "20 items of 3 classes, .* Received: 19 items .* `adapt`"),
    "other labels": (lambda: (IMAGES, LABELS[::-1]), "with other labels. Call `adapt`"),
    "nothing": (lambda: (IMAGES[:0], LABELS[:0]), "must have items"),
    "a path": (lambda: ("images",), "Expected arrays, .* Received: str"),
    "pixels in a data set": (lambda: (pairs(IMAGES * 255, LABELS),), r"outside of .* Received: values from [\d.]+ to"),
    "unknown labels": (lambda: (pairs(IMAGES, 1 - LABELS),), "no item of the code bank has. Call `adapt`"),
    "a width in a data set": (lambda: (pairs(IMAGES, LABELS[:, :2]),), "3 columns"),
    "images alone": (lambda: (pairs(IMAGES),), "must be .images, labels. or"),
    "single items": (lambda: (pairs().unbatch(),), "must be floats"),
    "an index beyond": (lambda: (pairs(IMAGES, LABELS, INDEX + 1),), r"in \[0, 20\). Received: values from 17 to 20"),
    "a negative index": (lambda: (pairs(IMAGES, LABELS, INDEX - 1),), r"in \[0, 20\). Received: values from -1"),
    "an index of floats": (lambda: (pairs(IMAGES, LABELS, INDEX / 2),), "integers of shape"),
    "a PyDataset": (lambda: (Batches(IMAGES, LABELS),), "knows which items they are"),
    "a generator of dicts": (lambda: (generated({"x": IMAGES}),), "A batch must be"),
    "a generator of zeros and twos": (lambda: (generated((IMAGES, LABELS * 2)),), "rows of 0 and 1"),
    "a generator of uneven parts": (lambda: (generated((IMAGES, LABELS[:3])),), "Received: 20 and 3 items"),
}  # fmt: skip


@pytest.fixture(scope="module")
def adapted():
    training = make()
    training.adapt(IMAGES, LABELS)
    return training


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG)
def test_what_it_cannot_learn_from_is_refused_before_a_step(adapted, case):
    given, message = WRONG[case]
    before = [variable.numpy() for variable in adapted.encoder.variables]
    with pytest.raises(ValueError, match=message) as refused:
        # The last batch of a data set of 20 in eights has the index 20; a step before it would be right.
        adapted.fit(*given(), verbose=0)
    assert "Graph execution error" not in str(refused.value) and "user code" not in str(refused.value)
    if "index" not in case:
        for variable, value in zip(adapted.encoder.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_weight": np.ones(ITEMS)}, "`sample_weight` is not taken"),
        ({"class_weight": {0: 2.0}}, "`class_weight` is not taken"),
        ({"validation_split": 0.2}, "`validation_split` is not taken"),
        ({"validation_data": (IMAGES * 255, LABELS)}, "outside of"),
        ({"validation_data": pairs(IMAGES, LABELS[:, :2])}, "3 columns"),
    ],
)
def test_options_that_would_be_read_as_something_else_are_refused(adapted, options, message):
    with pytest.raises(ValueError, match=message):
        adapted.fit(IMAGES, LABELS, verbose=0, **options)


def test_what_adapt_cannot_read_is_refused():
    training = make(SAAT, num_steps=1)
    for call in (lambda: training.fit(IMAGES, LABELS), lambda: training.evaluate(IMAGES, LABELS)):
        with pytest.raises(ValueError, match=r"`SAAT` has no code bank yet\. Call `adapt`"):
            call()
    cases = [
        (pairs().repeat(), "must be read by `steps`"),
        (pairs(IMAGES, LABELS, INDEX // 2), "must be 0 to 19, each once. Received: 10"),
        (pairs(IMAGES, LABELS, INDEX + 1), "must be 0 to 19, each once. Received: 20 of them, from 1 to 20"),
        (pairs(IMAGES, LABELS, size=8).take(0), "must have items"),
        ([1, 2], "Expected arrays"),
    ]
    for data, message in cases:
        with pytest.raises(ValueError, match=message):
            training.adapt(data)
    assert training.code_bank is None


@pytest.mark.slow
def test_an_inner_attack_that_keeps_something_of_each_image_needs_an_index():
    training = make(SAAT, inner=FGSMPrior(num_items=ITEMS, image_size=SIZE))
    training.adapt(IMAGES, LABELS)
    with pytest.raises(ValueError, match="`FGSMPrior` keeps a perturbation for each image: it needs arrays"):
        training.fit(pairs(), verbose=0)
    training.fit(IMAGES, LABELS, verbose=0, batch_size=ITEMS)
    assert (np.abs(training.inner.delta.numpy()).max(axis=(1, 2, 3)) > 0).all()


def test_a_strategy_is_given_rows_too():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        training = make(hashing_loss=DPH())
    training.adapt(IMAGES, LABELS)
    np.testing.assert_allclose(training.code_bank.codes, training.encoder(IMAGES), atol=1e-5)
    assert np.isfinite(training.fit(pairs(), verbose=0).history["loss"]).all()
