"""The checks on models that are wrong in a known way, and on one that is not."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import PGD, GradientAttack, SignStep, alignment
from saat_tf.codes import pack_codes
from saat_tf.data import RetrievalData, array_split
from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.evaluate import EncodedData
from saat_tf.evaluation.sanity_checks.model_checks import check_scores, run_model_checks
from saat_tf.evaluation.scores import score_defense
from saat_tf.threat_model import ThreatModel

BITS, QUERIES, SIDE = 16, 12, 8
BALL = ThreatModel.from_255(8)
RNG = np.random.default_rng(0)
WEIGHTS = tf.constant(RNG.normal(size=(SIDE * SIDE * 3, BITS)), tf.float32)
# Gray images that differ by less than the ball: all of a code is in reach, for noise too.
IMAGES = (0.5 + 0.004 * RNG.normal(size=(QUERIES, SIDE, SIDE, 3))).astype(np.float32)
LABELS = np.eye(QUERIES, dtype=np.float32)


def linear(scale, noise=0.0):
    def encoder(images, alpha, training):
        logits = scale * tf.reshape(images - 0.5, (-1, SIDE * SIDE * 3)) @ WEIGHTS
        return tf.tanh(alpha * logits + noise * tf.random.normal(tf.shape(logits)))

    return encoder


@pytest.fixture(scope="module")
def data():
    split = array_split(IMAGES, LABELS)
    return RetrievalData("gray", [str(i) for i in range(QUERIES)], split, split, split)


@pytest.fixture(scope="module")
def encoded():
    codes = pack_codes(linear(1.0)(IMAGES, 1.0, False)).numpy()
    return EncodedData(codes, codes, codes)


def away(num_steps=40, step=1 / 255):
    pgd = PGD(threat_model=BALL, objective=alignment, rule=SignStep(step), num_steps=num_steps)

    def goal(encoder, images, labels, seed):
        return -tf.sign(encoder(images, alpha=1.0, training=False))

    return GradientAttack(name="away", targeted=False, goal=goal, pgd=pgd)


@dataclasses.dataclass(frozen=True)
class Shift:
    by: float
    name: str = "shift"
    targeted: bool = False
    threat_model: ThreatModel = BALL

    def __call__(self, encoder, images, labels, seed):
        return images + self.by


def raised(encoder, data, encoded, attack):
    findings = run_model_checks(encoder, data, encoded, attack, LABELS, num_images=8)
    return {finding.check for finding in findings if finding.raised}, {finding.check for finding in findings}


@pytest.mark.slow
def test_a_sound_model_and_attack_raise_nothing(data, encoded):
    warned, looked_at = raised(linear(1.0), data, encoded, away())
    assert warned == set()
    assert looked_at == {
        "zero-gradients", "saturated-bits", "noise-wins", "still-rising", "stochastic-model", "left-ball"
    }  # fmt: skip


def test_a_saturated_model_has_no_slope(data, encoded):
    warned, _ = raised(linear(1e4), data, encoded, away())
    assert warned == {"zero-gradients", "saturated-bits"}


def test_a_small_alpha_brings_a_saturated_model_its_slope_back(data, encoded):
    attack = away()
    tamed = dataclasses.replace(attack, pgd=dataclasses.replace(attack.pgd, schedule=lambda n: [1e-4] * n))
    warned, _ = raised(linear(1e4), data, encoded, tamed)
    assert not {"zero-gradients", "saturated-bits"} & warned


def test_a_model_that_draws_lots_is_told(data, encoded):
    assert "stochastic-model" in raised(linear(1.0, noise=0.1), data, encoded, away())[0]


def test_an_attack_that_was_stopped_early_is_told(data, encoded):
    assert raised(linear(0.1), data, encoded, away(num_steps=20, step=1e-5))[0] == {"still-rising", "noise-wins"}


def test_attacks_without_gradients_are_checked_as_far_as_that_goes(data, encoded):
    warned, looked_at = raised(linear(1.0), data, encoded, Shift(0.0))
    assert warned == {"noise-wins"}  # it does nothing, and noise does much
    assert looked_at == {"noise-wins", "stochastic-model", "left-ball"}
    assert "left-ball" in raised(linear(1.0), data, encoded, Shift(0.04))[0]


def test_scores_of_stored_attacks_are_compared(data, encoded):
    """Attacks here flip the last so many bytes of a code; flipping nothing is a perfect search."""

    def flipped(name, epsilon, steps, num_bytes, linf=0.01):
        codes = encoded.test.copy()
        codes[:, :num_bytes] ^= 255
        seen = np.full((4, 1, QUERIES), linf, np.float32)
        return AttackedQueries(name, False, epsilon, steps, (0,), LABELS, codes[None], seen)

    attacked = [
        flipped("weakens", 8, 10, 2), flipped("weakens", 8, 100, 0),
        flipped("sound", 4, 10, 0), flipped("sound", 8, 10, 1, linf=0.05), flipped("square", 4, 500, 2),
    ]  # fmt: skip
    scores = score_defense(encoded, attacked, data, epsilon_255=8)
    assert scores.clean.map == 1 and scores.worst.map < 1 / 3
    found = check_scores(scores, chance=1 / 3, defended=True)
    warned = {(finding.check, finding.message.partition(":")[0]) for finding in found if finding.raised}
    assert warned == {
        ("left-ball", "sound, 8/255, 10 steps"), ("more-steps-attack-less", "weakens, 8/255"),
        ("black-box-wins", "square, 4/255"), ("below-chance", "worst case"),
    }  # fmt: skip
    assert "below-chance" not in {x.check for x in check_scores(scores, chance=1 / 3, defended=False)}
