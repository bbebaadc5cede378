"""What cannot be right is refused before anything is computed: a ValueError with what came and what to do."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import Knowledge, build_attack, mainstay_attack, square_attack
from saat_tf.data import Split, array_split
from saat_tf.evaluation import evaluate_robustness, filled_bank
from saat_tf.evaluation.attack_runner import attack_runner
from saat_tf.layers import DMFL, CodeBank
from saat_tf.losses import HashNet
from saat_tf.models import SAAT, HashingModel, HashingTraining, as_encoder
from saat_tf.random_numbers import seed_of
from saat_tf.training import RetrievalMAP, fit
from tests.small_graphs import tiny_backbone

BITS, SIZE, CLASSES = 16, 16, 3
IMAGES, LABELS = np.full((2, SIZE, SIZE, 3), 0.5, np.float32), np.eye(CLASSES, dtype=np.float32)[:2]


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return HashingModel("small_cnn", BITS, SIZE)


@pytest.fixture(scope="module")
def bank():
    return filled_bank(np.uint8([[1, 2], [3, 4], [5, 6]]), np.eye(CLASSES, dtype=np.float32))


def functional():
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, keras.layers.Dense(BITS)(keras.layers.Flatten()(inputs)), name="plain")


def returns(function):
    """An encoder that takes `alpha` and returns what `function` makes of the images."""
    return lambda images, alpha, training: function(images)


BAD_ENCODERS = {
    "a Keras model, which drops alpha": (functional, r"takes no `alpha`.*as_encoder"),
    "a function without alpha": (lambda: lambda images: images, r"takes no `alpha`.*as_encoder"),
    "any keyword is no alpha": (lambda: lambda images, **options: images, r"takes no `alpha`.*as_encoder"),
    "no function": (lambda: 3, r"a int, which takes no `alpha`"),
    "a map of features": (lambda: returns(lambda x: x), rf"\(batch, bits\)\. Received: float32 of shape \(2, {SIZE}"),
    "integers": (lambda: returns(lambda x: tf.ones((2, BITS), tf.int32)), "Received: int32 of shape"),
    "another code length": (
        lambda: returns(lambda x: tf.reduce_mean(x, (1, 2))), "an encoder of 3 bits and codes of 16. Fill a bank"
    ),
    "one bit, which would broadcast": (
        lambda: returns(lambda x: tf.reduce_mean(x, (1, 2))[:, :1]), "an encoder of 1 bits and codes of 16"
    ),
    "no gradient": (
        lambda: returns(lambda x: tf.round(tf.tile(tf.reduce_mean(x, (1, 2)), [1, 6])[:, :BITS])),
        "Received: an encoder without one. Look for rounding",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ENCODERS)
def test_what_is_no_encoder_is_refused_with_the_remedy(name, bank):
    make, message = BAD_ENCODERS[name]
    attack = mainstay_attack(8 / 255, bank, num_steps=1)
    with pytest.raises(ValueError, match=message):
        attack(make(), IMAGES, LABELS, seed=0)


@pytest.mark.parametrize("name", ["another code length", "a map of features", "a Keras model, which drops alpha"])
def test_the_black_box_refuses_it_too(name, bank):
    make, message = BAD_ENCODERS[name]
    with pytest.raises(ValueError, match=message):
        square_attack(8 / 255, DMFL(bank), num_queries=2)(make(), IMAGES, LABELS, seed=0)


BAD_BATCHES = {
    "no batch": (IMAGES[0], LABELS, rf"shape \(batch, {SIZE}, {SIZE}, 3\)\. Received: float32 of shape \({SIZE}, "),
    "another size": (IMAGES[:, 1:], LABELS, rf"shape \(batch, {SIZE}, {SIZE}, 3\)\. Received"),
    "bytes": (np.uint8(IMAGES), LABELS, "Received: uint8 of shape .*Divide uint8 pixels by 255"),
    "0 to 255": (255 * IMAGES, LABELS, r"outside of \[0, 1\]. Divide pixels of 0..255 by 255. Received: 127.5"),
    "class numbers": (IMAGES, np.array([0, 1]), "rows of 0 and 1.*class numbers by one-hot rows"),
    "labels of -1 and 1": (IMAGES, 2 * LABELS - 1, r"values \[-1.0, 1.0\].*become 0/1"),
    "too few rows of labels": (IMAGES, LABELS[:1], "one row of labels. Received: 2 images and 1 rows"),
    "another number of classes": (IMAGES, np.eye(4)[:2], rf"\(images, {CLASSES}\).*Received: shape \(2, 4\)"),
}


@pytest.mark.parametrize("attack_name", ["mainstay", "center", "dhta", "pta", "sdha", "square"])
@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_bad_batch_is_refused_by_each_attack_in_the_same_words(name, attack_name, encoder, bank):
    images, labels, message = BAD_BATCHES[name]
    attack = build_attack(attack_name, 8 / 255, Knowledge(bank, bank), num_steps=1)
    with pytest.raises(ValueError, match=message):
        attack(encoder, images, labels, seed=0)


def test_inside_of_an_evaluation_the_error_is_the_same_without_tensorflows_own(encoder, bank):
    runner = attack_runner(mainstay_attack(8 / 255, bank, num_steps=1), encoder)
    with pytest.raises(ValueError, match=r"^Labels must be of shape \(images, 3\)"):
        runner(IMAGES, tf.constant(np.eye(4, dtype=np.float32)[:2]), tf.constant([0, 0]))


@pytest.mark.parametrize("epsilon", ["8/255", None, 8, -0.1, float("nan")])
def test_a_radius_that_is_none_is_refused(epsilon, bank):
    with pytest.raises(ValueError, match=r"epsilon must be.*8 ?/ ?255"):
        mainstay_attack(epsilon, bank)


@pytest.mark.parametrize("seed", [0.5, "0", (1, 2, 3), None])
def test_a_seed_that_is_none_is_refused(seed, encoder, bank):
    with pytest.raises(ValueError):
        mainstay_attack(8 / 255, bank, num_steps=1)(encoder, IMAGES, LABELS, seed=seed)


def test_an_integer_is_the_seed_of_it_and_zero(encoder, bank):
    attack = mainstay_attack(8 / 255, bank, num_steps=2)
    plain = attack(encoder, IMAGES, LABELS, seed=3)
    np.testing.assert_array_equal(plain, attack(encoder, tf.constant(IMAGES), tf.constant(LABELS), tf.constant([3, 0])))
    assert np.abs(plain - attack(encoder, IMAGES, LABELS, seed=4)).max() > 1 / 255
    assert seed_of(3).numpy().tolist() == [3, 0]


BAD_ROWS = {
    "an index beyond the bank": ([0, 3], np.zeros((2, BITS)), r"items 0 to 2\. Received: an index from 0 to 3"),
    "a negative index": ([-1], np.zeros((1, BITS)), r"items 0 to 2\. Received: an index from -1 to -1"),
    "codes of another length": ([0], np.zeros((1, 8)), r"codes \(batch, 16\)\. Received: shapes \(1,\) and \(1, 8\)"),
    "fewer codes than indices": ([0, 1], np.zeros((1, BITS)), r"Received: shapes \(2,\) and \(1, 16\)"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_do_not_fit_the_bank_are_refused_and_leave_it_as_it_was(name):
    index, codes, message = BAD_ROWS[name]
    bank = CodeBank.from_labels(np.eye(CLASSES), BITS)
    with pytest.raises(ValueError, match=message):
        bank.update(index, np.float32(codes))
    assert not bank.codes.numpy().any() and bank.code_sums().numpy().tolist() == [[1.0] * BITS] * CLASSES


def test_what_is_no_hashing_model_is_not_trained():
    with pytest.raises(ValueError, match=r"must be a HashingModel\. Received: a Functional\. Make one around a Keras"):
        SAAT(functional())


# Images and labels that no entrance takes, and what the message says.
OBJECTS = np.array([IMAGES[0], None], dtype=object)
HALF = np.where(IMAGES == IMAGES, np.nan, IMAGES).astype(np.float32)
BAD_PAIRS = {
    "rank": (IMAGES[:, 0], LABELS, r"Received: float32 of shape"),
    "one channel": (IMAGES[..., :1], LABELS, r"Received: float32 of shape"),
    "channels first": (np.transpose(IMAGES, (0, 3, 1, 2)), LABELS, r"Received: float32 of shape"),
    "bytes": (np.uint8(IMAGES), LABELS, r"Received: uint8 of shape .*Divide uint8 pixels by 255"),
    "text": (np.array(["a", "b"]), LABELS, r"Received: string of shape"),
    "range": (255 * IMAGES, LABELS, r"outside of \[0, 1\]\. Divide pixels .*Received: .*127\.5"),
    "NaN": (HALF, LABELS, r"NaN or infinite\. Received: at least one\. Look at how"),
    "class numbers": (IMAGES, np.array([0, 1]), r"rows of 0 and 1.*Received: int64 of .*class numbers by one-hot"),
    "labels of -1 and 1": (IMAGES, 2 * LABELS - 1, r"rows of 0 and 1.*-1/1 become 0/1.*Received|Received.*-1/1 become"),
}
IN_MEMORY = {
    "objects": (OBJECTS, LABELS, r"Received: object of shape \(2,\)"),
    "no labels": (IMAGES, None, r"Received: (None|object of shape)"),
    "too few labels": (IMAGES, LABELS[:1], r"Received: (2 images and 1 r|2 and 1 i|shapes \(2, .*\) and \(1, 3\))"),
}
ANOTHER_SIZE = {"another size": (IMAGES[:, 1:], LABELS, r"\(batch, 16, 16, 3\)\. Received: float32 of shape \(\w+, 15")}
ANOTHER_WIDTH = {"another width": (IMAGES, np.eye(4, dtype=np.float32)[:2], r"Received: [^.]*\b4\b")}
EMPTY = {"none": (IMAGES[:0], LABELS[:0], r"Received: (none|0 images)")}


def data_set(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)


def batches(images, labels):
    yield images, labels


def training(encoder, *, adapted=True):
    made = HashingTraining(encoder, hashing_loss=HashNet())
    made.compile("sgd", run_eagerly=True)  # a step is called with data alone, and not to be traced
    if adapted:
        made.set_items(LABELS)
    return made


def verdict(encoder, **pairs):
    known = {"queries": (IMAGES, LABELS), "database": (IMAGES, LABELS)}
    return evaluate_robustness(encoder, **{**known, **pairs}, attacks=["hag"], num_steps=1)


GOOD = IMAGES, LABELS
MODEL, ARRAYS = {**BAD_PAIRS, **ANOTHER_SIZE}, {**BAD_PAIRS, **ANOTHER_SIZE, **IN_MEMORY}
# Name -> what is called with an encoder, images and labels; and what it is to refuse.
ENTRANCES = {
    "fit": (lambda e, x, y: training(e).fit(x, y, verbose=0), ARRAYS | ANOTHER_WIDTH | EMPTY),
    "fit on a data set": (lambda e, x, y: training(e).fit(data_set(x, y), verbose=0), MODEL | ANOTHER_WIDTH | EMPTY),
    "fit on a generator": (
        lambda e, x, y: training(e).fit(batches(x, y), verbose=0), MODEL | ANOTHER_WIDTH | EMPTY | IN_MEMORY
    ),
    "validation_data": (
        lambda e, x, y: training(e).fit(*GOOD, validation_data=(x, y)), ARRAYS | ANOTHER_WIDTH | EMPTY
    ),
    "evaluate": (lambda e, x, y: training(e).evaluate(x, y, verbose=0), ARRAYS | ANOTHER_WIDTH | EMPTY),
    "evaluate a data set": (lambda e, x, y: training(e).evaluate(data_set(x, y), verbose=0), MODEL | EMPTY),
    "adapt": (lambda e, x, y: training(e, adapted=False).adapt(x, y), ARRAYS | EMPTY),
    "adapt to a data set": (lambda e, x, y: training(e, adapted=False).adapt(data_set(x, y)), MODEL | EMPTY),
    "queries": (lambda e, x, y: verdict(e, queries=(x, y)), ARRAYS | ANOTHER_WIDTH | EMPTY),
    "database": (lambda e, x, y: verdict(e, database=(x, y)), ARRAYS | ANOTHER_WIDTH | EMPTY),
    "train": (lambda e, x, y: verdict(e, train=(x, y)), ARRAYS | ANOTHER_WIDTH | EMPTY),
    "RetrievalMAP": (lambda e, x, y: RetrievalMAP((x, y), GOOD), BAD_PAIRS | IN_MEMORY | ANOTHER_WIDTH | EMPTY),
    "RetrievalMAP in fit": (
        lambda e, x, y: training(e).fit(*GOOD, callbacks=[RetrievalMAP((x, y), GOOD)], verbose=0), ANOTHER_SIZE
    ),
    "exact resume": (
        lambda e, x, y: fit(training(e, adapted=False), array_split(x, y), epochs=1, checkpoint_dir=FOLDER),
        ARRAYS | EMPTY,
    ),
    "validation of exact resume": (
        lambda e, x, y: fit(
            training(e), array_split(*GOOD), epochs=1, checkpoint_dir=FOLDER, validation_data=(x, y)
        ),
        ARRAYS | ANOTHER_WIDTH | EMPTY,
    ),
    "Split.from_arrays": (lambda e, x, y: Split.from_arrays(x, y), BAD_PAIRS | IN_MEMORY | EMPTY),
    "Split.from_dataset": (lambda e, x, y: Split.from_dataset(data_set(x, y)), BAD_PAIRS | EMPTY),
}  # fmt: skip
FOLDER = "never made"
OF_LABELS = {"class numbers", "labels of -1 and 1", "no labels", "too few labels"}
ONLY_IMAGES = {
    "encode": lambda e, x: e.encode(x),
    "encode of as_encoder": lambda e, x: as_encoder(e, threshold=0.1).encode(x),
    "predict": lambda e, x: e.predict(x, verbose=0),
    "predict of the training": lambda e, x: training(e).predict(x, verbose=0),
}


@pytest.fixture
def no_step(monkeypatch, tmp_path):
    """A fault if anything is trained, attacked or written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HashingTraining, "learn_batch", lambda *_: pytest.fail("a step was done"))
    monkeypatch.setattr("saat_tf.evaluation.robustness._attacked", lambda *_: pytest.fail("an attack was run"))


def told(call):
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "eceived" in message and len(message) < 400, message
    assert not any(word in message for word in ("Traceback", "in user code", "function_node", "Graph execution"))
    return message


@pytest.fixture(scope="module")
def tiny_encoder():
    return HashingModel(tiny_backbone(SIZE), BITS)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_refuses_the_same_pairs_before_a_step(entrance, tiny_encoder, no_step, tmp_path):
    call, cases = ENTRANCES[entrance]
    for name, (images, labels, message) in cases.items():
        found = told(lambda images=images, labels=labels: call(tiny_encoder, images, labels))
        assert re.search(message, found, flags=re.DOTALL), (name, found)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("entrance", ONLY_IMAGES)
def test_what_encodes_refuses_the_same_images_and_gives_nothing_for_none(entrance, tiny_encoder):
    call = ONLY_IMAGES[entrance]
    for name, (images, _, message) in ARRAYS.items():
        if name not in OF_LABELS:
            found = told(lambda images=images: call(tiny_encoder, images))
            assert re.search(message, found, flags=re.DOTALL), (name, found)
    empty = np.asarray(call(tiny_encoder, IMAGES[:0]))
    assert empty.shape == ((0, BITS) if "predict" in entrance else (0, BITS // 8))


def test_an_empty_batch_among_others_is_refused_as_it_is_drawn(tiny_encoder):
    drawn = tf.data.Dataset.from_generator(
        lambda: iter([(IMAGES[:0], LABELS[:0])]),
        output_signature=(tf.TensorSpec((None, SIZE, SIZE, 3)), tf.TensorSpec((None, CLASSES))),
    )
    for data in (drawn, iter([(IMAGES[:0], LABELS[:0])])):
        message = told(lambda data=data: training(tiny_encoder).fit(data, verbose=0))
        assert "A batch must have items. Received: none. Leave out empty batches" in message


def test_codes_that_fill_no_bytes_are_refused_before_they_are_packed():
    model = HashingModel(tiny_backbone(SIZE), 12)
    for encoder in (model, as_encoder(model, threshold=0.1)):
        for call in (lambda: encoder.encode(IMAGES), lambda: verdict(encoder)):  # noqa: B023
            assert re.search(r"positive multiple of 8\. Received: 12\. Use 16, 32", told(call))


def test_scores_of_an_epoch_need_a_model_with_an_encoder():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"the `encoder` of the model.*Received: a Sequential without one\. Train by"):
        model.fit(np.zeros((1, 2)), np.zeros(1), callbacks=[RetrievalMAP(GOOD, GOOD)], verbose=0)
