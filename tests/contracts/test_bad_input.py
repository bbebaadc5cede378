"""What cannot be right is refused before anything is computed: a ValueError with what came and what to do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import Knowledge, build_attack, mainstay_attack, square_attack
from saat_tf.evaluation import filled_bank
from saat_tf.evaluation.attack_runner import attack_runner
from saat_tf.layers import DMFL, CodeBank
from saat_tf.models import SAAT, HashingModel
from saat_tf.random_numbers import seed_of

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
