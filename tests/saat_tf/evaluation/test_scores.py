"""Worst cases and series of stored attacks, against loops written out here."""

import numpy as np
import pytest

from saat_tf.data import RetrievalData, array_split
from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.evaluate import EncodedData
from saat_tf.evaluation.scores import score_defense, series

QUERIES, ITEMS = 9, 30


def ap(code, database, relevant, top_k):
    """AP@k of one query by the definition, over bits 0/1."""
    order = sorted(range(len(database)), key=lambda j: (np.sum(code != database[j]), j))[:top_k]
    hits, total = 0, 0.0
    for t, j in enumerate(order, start=1):
        if relevant[j]:
            hits += 1
            total += hits / t
    return total / hits if hits else 0.0


def aps(codes, database, labels, database_labels, top_k):
    bits, database_bits = np.unpackbits(codes, axis=1), np.unpackbits(database, axis=1)
    return [
        ap(code, database_bits, database_labels @ label > 0, top_k) for code, label in zip(bits, labels, strict=True)
    ]


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def data(rng):
    def split(n):
        labels = (rng.random((n, 4)) < 0.4).astype(np.float32)
        return array_split(np.zeros((n, 16, 16, 3), np.float32), labels)

    return RetrievalData("drawn", list("abcd"), split(20), split(ITEMS), split(QUERIES))


@pytest.fixture(scope="module")
def encoded(rng):
    return EncodedData(*(rng.integers(0, 256, (n, 2), np.uint8) for n in (20, ITEMS, QUERIES)))


@pytest.fixture(scope="module")
def attack(rng, data):
    def make(name, epsilon, steps=10, restarts=1, targeted=False):
        labels = np.roll(data.test.labels, 1, axis=0) if targeted else data.test.labels
        codes = rng.integers(0, 256, (restarts, QUERIES, 2), np.uint8)
        return AttackedQueries(
            name, targeted, epsilon, steps, tuple(range(restarts)), labels, codes, np.zeros((4, restarts, QUERIES))
        )

    return make


def test_the_worst_restart_and_the_worst_attack_within_the_radius_count_for_each_query(data, encoded, attack):
    attacked = [attack("a", 8, restarts=3), attack("b", 4), attack("c", 16), attack("t", 8, targeted=True)]
    scores = score_defense(encoded, attacked, data, epsilon_255=8, top_k=7)
    of = {
        x.attack: np.array([aps(c, encoded.database, x.labels, data.database.labels, 7) for c in x.codes])
        for x in attacked
    }
    for x in scores.attacks:
        values = of[x.attacked.attack]
        expected = values.max(axis=0) if x.attacked.targeted else values.min(axis=0)
        np.testing.assert_allclose(x.score.average_precisions, expected, atol=1e-12)
    worst = np.min([*of["a"], *of["b"]], axis=0)
    np.testing.assert_allclose(scores.worst.average_precisions, worst, atol=1e-12)
    # The codes kept are those that gave the score.
    np.testing.assert_allclose(
        aps(scores.worst.codes, encoded.database, data.test.labels, data.database.labels, 7), worst, atol=1e-12
    )


def test_a_targeted_attack_is_scored_against_the_targets_before_and_after(data, encoded, attack):
    one = attack("t", 8, targeted=True)
    (score,) = score_defense(encoded, [one], data, epsilon_255=8).targeted
    before = aps(encoded.test, encoded.database, one.labels, data.database.labels, ITEMS)
    np.testing.assert_allclose(score.before.average_precisions, before, atol=1e-12)


def test_the_ideal_attack_is_the_code_opposite_to_the_mainstay_code(data, encoded):
    train = 2.0 * np.unpackbits(encoded.train, axis=1) - 1
    opposite = []
    for label in data.test.labels.astype(float):
        shared = data.train.labels.astype(float) @ label
        weights = shared / np.maximum(np.sqrt(data.train.labels.sum(axis=1)), 1)
        others = shared == 0
        near = weights @ train / weights.sum() if weights.sum() else 0
        far = others @ train / others.sum() if others.sum() else 0
        opposite.append(near - far < -1e-12)
    codes = np.packbits(opposite, axis=1)
    expected = aps(codes, encoded.database, data.test.labels, data.database.labels, ITEMS)
    ideal = score_defense(encoded, [], data, epsilon_255=8).ideal
    np.testing.assert_array_equal(ideal.codes, codes)
    np.testing.assert_allclose(ideal.average_precisions, expected, atol=1e-12)


def test_without_an_attack_the_worst_case_is_the_clean_one(data, encoded, attack):
    scores = score_defense(encoded, [attack("far", 16)], data, epsilon_255=8)
    np.testing.assert_array_equal(scores.worst.average_precisions, scores.clean.average_precisions)


def test_series_hold_what_differs_in_one_number_alone(data, encoded, attack):
    attacked = [
        attack("a", 8, 100), attack("a", 4, 100), attack("a", 8, 10), attack("b", 8, 100), attack("b", 4, 10)
    ]  # fmt: skip
    attacks = score_defense(encoded, attacked, data, epsilon_255=8).attacks
    by_epsilon = {name: [place for place, _ in points] for name, points in series(attacks, "epsilon").items()}
    by_steps = {name: [place for place, _ in points] for name, points in series(attacks, "steps").items()}
    assert by_epsilon == {"a, 100 steps": [4, 8]}
    assert by_steps == {"a, 8/255": [10, 100]}
    with pytest.raises(ValueError, match="epsilon, steps"):
        series(attacks, "seeds")
