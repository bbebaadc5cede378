"""Evaluation: what is scored, and that the caller checks the attack."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import mainstay_attack
from saat_tf.data import RetrievalData, array_split, draw_scenes
from saat_tf.evaluation import attack_split, encode_split, evaluate
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


@pytest.fixture(scope="module")
def report(encoder, data):
    attack = mainstay_attack(ThreatModel.from_255(8), num_steps=10)
    return evaluate(encoder, data, attack, batch_size=4, seed=3, keep_images=5)


def signs(encoder, images):
    return np.where(encoder.logits(images).numpy() >= 0, 1, -1)


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
    evaluate(encoder, data, mainstay_attack(ThreatModel.from_255(8), num_steps=2), batch_size=8)
    for variable, value in zip(encoder.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_the_same_seed_repeats_the_attack_and_another_does_not(encoder, data):
    attack = mainstay_attack(ThreatModel.from_255(8), num_steps=1)
    wanted = tf.ones((len(data.test), BITS))

    def images(seed):
        return attack_split(encoder, data.test, attack, wanted, batch_size=4, seed=seed, keep_images=11)[1]

    np.testing.assert_array_equal(images(0), images(0))
    assert np.abs(images(0) - images(1)).max() > 0


def test_an_attack_that_leaves_its_ball_is_found_out(encoder, data):
    class Cheat:
        threat_model = ThreatModel.from_255(8)

        def __call__(self, relax, images, wanted_codes, seed):
            return tf.clip_by_value(images + 9 / 255, 0.0, 1.0)

    with pytest.raises(ValueError, match="left its ball"):
        attack_split(encoder, data.test, Cheat(), tf.ones((len(data.test), BITS)))


def test_encoding_keeps_the_order_over_batches(encoder, data):
    whole = np.packbits(signs(encoder, images_of(data.database)) > 0, axis=1)
    np.testing.assert_array_equal(encode_split(encoder, data.database, 7), whole)
