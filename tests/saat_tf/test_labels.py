"""The check of labels, at every entrance."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf import SAAT, CodeBank, HashingModel, HashingTraining
from saat_tf.attacks.attack import GradientAttack
from saat_tf.attacks.objectives import alignment
from saat_tf.attacks.pgd import PGD
from saat_tf.attacks.rules import SignStep
from saat_tf.attacks.square import square_attack
from saat_tf.data import array_split
from saat_tf.labels import check_labels, checked_labels
from saat_tf.losses import DPH
from saat_tf.threat_model import ThreatModel

EXPECTED = "must be rows of 0 and 1, of shape"
WRONG = {"signs": [[-1, 1]], "a half": [[0.5, 1]], "NaN": [[np.nan, 1]], "a two": [[0, 2]], "infinite": [[np.inf, 0]]}
IMAGES = np.full((4, 16, 16, 3), 0.5, np.float32)
LABELS = np.float32([[1, 0], [0, 1], [1, 1], [0, 0]])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_zeros_and_ones_of_any_type_pass(dtype):
    np.testing.assert_array_equal(check_labels(LABELS.astype(dtype)), LABELS)
    checked = checked_labels(LABELS.astype(dtype))
    assert checked.dtype == tf.float32
    np.testing.assert_array_equal(checked, LABELS)
    assert check_labels(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("labels", [*WRONG.values(), [0, 1], [[[0]]]], ids=[*WRONG, "a vector", "three axes"])
def test_others_are_refused_at_once_and_in_a_graph(labels):
    labels = np.float32(labels)
    for check in (check_labels, checked_labels, lambda rows: CodeBank.from_labels(rows, 8),
                  lambda rows: array_split(IMAGES[:1], rows)):  # fmt: skip
        with pytest.raises(ValueError, match=EXPECTED):
            check(labels)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=EXPECTED):
        tf.function(checked_labels)(tf.constant(labels))


def batches(labels):
    return tf.data.Dataset.from_tensor_slices((IMAGES, np.float32(labels), np.arange(4))).batch(2)


@pytest.mark.slow
@pytest.mark.parametrize("make", [HashingTraining, lambda *parts: SAAT(*parts, num_steps=1)], ids=["hashing", "saat"])
@pytest.mark.parametrize("row", [0, 3])
def test_fit_refuses_a_batch_before_it_is_trained_on(make, row):
    model = make(HashingModel("small_cnn", 8, 16), CodeBank.from_labels(LABELS, 8), DPH())
    model.compile(optimizer="sgd")
    before = model.encoder.trainable_variables[0].numpy()
    labels = LABELS.copy()
    labels[row] = [-1, 1]
    with pytest.raises(ValueError, match=EXPECTED):
        model.fit(batches(labels), verbose=0)
    kernel = model.encoder.trainable_variables[0]
    if row == 0:
        np.testing.assert_array_equal(kernel, before)
    model.fit(batches(LABELS), verbose=0)
    assert np.isfinite(kernel.numpy()).all()


def test_attacks_refuse_them():
    pgd = PGD(threat_model=ThreatModel(0.1), objective=alignment, rule=SignStep(0.1), num_steps=1)
    attacks = [
        GradientAttack(name="up", targeted=False, goal=lambda e, x, y, s: tf.ones((1, 3)), pgd=pgd),
        square_attack(0.1, lambda labels: tf.ones((len(labels), 3)), num_queries=2),
    ]

    def encoder(images, alpha=1.0, training=False):
        return tf.tanh(alpha * tf.reduce_mean(images, (1, 2)))

    for attack in attacks:
        arguments = tf.constant(IMAGES[:2]), tf.constant([[-1.0, 1.0], [1.0, 0.0]]), tf.constant([0, 0])
        with pytest.raises(ValueError, match=EXPECTED):
            attack(encoder, *arguments)
        with pytest.raises(tf.errors.InvalidArgumentError, match=EXPECTED):
            tf.function(lambda *given, attack=attack: attack(encoder, *given))(*arguments)
