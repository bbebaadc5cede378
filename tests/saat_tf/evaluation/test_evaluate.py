"""Evaluation: what is scored, and that the caller checks the attack."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import mainstay_attack
from saat_tf.data import RetrievalData, array_split, draw_scenes
from saat_tf.evaluation import attack_split, encode_data, encode_split, evaluate, filled_bank, knowledge
from saat_tf.models import HashingModel
from saat_tf.threat_model import ThreatModel

BITS, SIZE = 16, 16


@pytest.fixture(scope="module")
def data():
    database, queries = draw_scenes(40, image_size=SIZE, seed=0), draw_scenes(11, image_size=SIZE, seed=1)
    train = array_split(database.images[:24], database.labels[:24])
    return RetrievalData(
        "scenes",
        [str(i) for i in range(10)],
        train,
        array_split(database.images, database.labels),
        array_split(queries.images, queries.labels),
    )


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return HashingModel("small_cnn", BITS, SIZE)


def images_of(split):
    return np.stack([split.load(i) for i in range(len(split))])


def map_by_hand(query_codes, database_codes, query_labels, database_labels):
    """MAP over the whole database by a plain loop on +-1 codes, equal distances in the database's order."""
    values = []
    for code, labels in zip(query_codes, query_labels, strict=True):
        order = sorted(range(len(database_codes)), key=lambda j: ((code != database_codes[j]).sum(), j))
        hits = [bool((labels * database_labels[j]).any()) for j in order]
        precisions = [sum(hits[: t + 1]) / (t + 1) for t, hit in enumerate(hits) if hit]
        values.append(sum(precisions) / len(precisions) if precisions else 0.0)
    return float(np.mean(values))


def mainstay(num_steps):
    return lambda known: mainstay_attack(8 / 255, known.train, num_steps=num_steps)


@pytest.fixture(scope="module")
def report(encoder, data):
    return evaluate(encoder, data, mainstay(num_steps=10), batch_size=4, seed=3, keep_images=5)


def signs(encoder, images):
    return np.where(encoder.logits(images).numpy() >= 0, 1, -1)


@pytest.mark.slow
def test_clean_map_is_that_of_the_queries_as_they_are(report, encoder, data):
    expected = map_by_hand(
        signs(encoder, images_of(data.test)),
        signs(encoder, images_of(data.database)),
        data.test.labels,
        data.database.labels,
    )
    assert report.clean_map == pytest.approx(expected, abs=1e-9)


def test_ideal_attack_map_is_that_of_the_codes_opposite_to_the_mainstay_codes(report, encoder, data):
    train = signs(encoder, images_of(data.train))
    opposite = []
    for y in data.test.labels:
        shared = data.train.labels @ y
        w, n = shared / np.sqrt(data.train.labels.sum(axis=1)), (shared == 0).astype(float)
        score = (w @ train / w.sum() if w.sum() else 0) - (n @ train / n.sum() if n.sum() else 0)
        opposite.append(np.where(score >= -1e-12, -1, 1))
    database = signs(encoder, images_of(data.database))
    expected = map_by_hand(opposite, database, data.test.labels, data.database.labels)
    assert report.ideal_attack_map == pytest.approx(expected, abs=1e-9)


def test_attacked_map_is_that_of_the_images_that_the_attack_returned(report, encoder, data):
    codes = signs(encoder, report.adversarial_images)
    np.testing.assert_array_equal(np.unpackbits(report.adversarial_codes[:5], axis=1) * 2.0 - 1, codes)
    attacked = np.unpackbits(report.adversarial_codes, axis=1) * 2.0 - 1
    database = signs(encoder, images_of(data.database))
    expected = map_by_hand(attacked, database, data.test.labels, data.database.labels)
    assert report.attacked_map == pytest.approx(expected, abs=1e-9)


def test_kept_images_are_near_the_queries_and_differ_from_them(report, data):
    delta = report.adversarial_images - images_of(data.test)[:5]
    assert len(delta) == 5
    assert 0 < np.abs(delta).max() <= 8 / 255 + 1e-6


def test_evaluation_changes_nothing_of_the_encoder(encoder, data):
    before = [v.numpy() for v in encoder.variables]
    evaluate(encoder, data, mainstay(num_steps=2), batch_size=8)
    for variable, value in zip(encoder.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.slow
def test_the_same_seed_repeats_the_attack_and_another_does_not(encoder, data):
    attack = mainstay(num_steps=1)(knowledge(encode_data(encoder, data), data))

    def images(seed):
        return attack_split(
            encoder, data.test, attack, data.test.labels, batch_size=4, seed=seed, keep_images=11
        ).images

    first, again, other = images(0), images(0), images(1)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_an_attack_that_leaves_its_ball_is_found_out(encoder, data):
    class Cheat:
        name, targeted, threat_model = "cheat", False, ThreatModel.from_255(8)

        def __call__(self, encoder, images, labels, seed):
            return tf.clip_by_value(images + 9 / 255, 0.0, 1.0)

    with pytest.raises(ValueError, match="left its ball"):
        attack_split(encoder, data.test, Cheat(), data.test.labels)


def test_a_target_that_shares_a_label_with_its_image_is_refused(encoder, data):
    known = knowledge(encode_data(encoder, data), data)
    attack = mainstay_attack(8 / 255, known.train, targeted=True, num_steps=1)
    with pytest.raises(ValueError, match="must share none with the query"):
        attack_split(encoder, data.test, attack, data.test.labels)


def test_the_attacker_knows_the_codes_and_labels_of_training_set_and_database(encoder, data):
    known = knowledge(encode_data(encoder, data), data)
    for bank, split in ((known.train, data.train), (known.database, data.database)):
        np.testing.assert_array_equal(bank.codes.numpy(), signs(encoder, images_of(split)))
        np.testing.assert_array_equal(bank.label_sets.numpy()[bank.set_index.numpy()], split.labels)


def test_a_bank_is_filled_from_packed_codes_most_significant_bit_first():
    bank = filled_bank(np.uint8([[0b10000001], [0b11110000]]), np.eye(2))
    np.testing.assert_array_equal(bank.codes.numpy() > 0, [[1, 0, 0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 0, 0, 0, 0]])


def test_an_attack_gets_the_labels_that_belong_to_each_image(encoder, data):
    labels, got = np.eye(len(data.test), dtype=np.float32), []

    class Nothing:
        name, targeted, threat_model = "nothing", False, ThreatModel.from_255(8)

        def __call__(self, encoder, images, labels, seed):
            tf.py_function(lambda *seen: got.append([x.numpy() for x in seen]), [images, labels], [])
            return tf.identity(images)

    attack_split(encoder, data.test, Nothing(), labels, batch_size=4)
    np.testing.assert_array_equal(np.concatenate([seen for _, seen in got]), labels)
    np.testing.assert_array_equal(np.concatenate([images for images, _ in got]), images_of(data.test))


def test_encoding_keeps_the_order_over_batches(encoder, data):
    whole = np.packbits(signs(encoder, images_of(data.database)) > 0, axis=1)
    np.testing.assert_array_equal(encode_split(encoder, data.database, 7), whole)


def test_a_bank_is_filled_in_blocks(monkeypatch):
    monkeypatch.setattr(sys.modules[filled_bank.__module__], "BANK_BLOCK", 4)
    rng = np.random.default_rng(0)
    codes, labels = rng.choice([-1.0, 1.0], (11, BITS)), (rng.random((11, 5)) < 0.4).astype(np.float32)
    bank = filled_bank(np.packbits(codes > 0, axis=1), labels)
    np.testing.assert_array_equal(bank.codes.numpy(), codes)
    sums = [codes[(labels == row).all(axis=1)].sum(axis=0) for row in bank.label_sets.numpy()]
    np.testing.assert_array_equal(bank.code_sums().numpy(), sums)
