"""No attack of the suite, at any radius and restart, gets below a certificate."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import ATTACKS, Knowledge, build_attack
from saat_tf.certify import Certificate, certify
from saat_tf.data import draw_scenes
from saat_tf.evaluation import filled_bank
from saat_tf.metrics import average_precisions
from saat_tf.models import HashingModel

BITS, SIZE, QUERIES = 16, 16, 6
EPSILONS = (1 / 255, 6 / 255)
METHODS = ("ibp", "crown", "margin")
NAMES = [name for name in ATTACKS if name != "pros-gan"]  # which is trained first


@dataclasses.dataclass
class Victim:
    """A model of which some bits can be certified and others flip, and what an attacker knows of it."""

    encoder: HashingModel
    known: Knowledge
    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    database_codes: np.ndarray
    database_labels: np.ndarray
    certificates: dict[tuple[str, float], Certificate]
    bounds: dict[tuple[str, float, bool], np.ndarray]


@pytest.fixture(scope="module")
def victim():
    keras.utils.set_random_seed(0)
    scenes = draw_scenes(60, image_size=SIZE, seed=0)
    layers = [keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(6, 4, 4, activation="relu"), keras.layers.Flatten()]
    encoder = HashingModel(keras.Sequential(layers), BITS, mean=(0.5,) * 3, std=(0.25,) * 3)
    logits = encoder.logits(scenes.images).numpy()
    projection = encoder.hash_head.projection
    projection.kernel.assign(projection.kernel / logits.std())
    # From bits that split the images in half to bits that are far from flipping.
    projection.bias.assign(-logits.mean(axis=0) / logits.std() + np.linspace(-3, 3, BITS))
    codes = encoder.encode(scenes.images).numpy()
    bank = filled_bank(codes, scenes.labels)
    prototypes = np.random.default_rng(9).choice(np.float32([-1, 1]), (10, BITS))
    known = Knowledge(
        train=bank, database=bank, prototype_codes=lambda y: tf.where(tf.matmul(y, prototypes) >= 0, 1.0, -1.0)
    )
    images, labels = scenes.images[:QUERIES], scenes.labels[:QUERIES]
    targets = np.roll(scenes.labels, -1, axis=0)[:QUERIES]
    certificates = {(m, e): certify(encoder, images, e, method=m) for m in METHODS for e in EPSILONS}
    # No code that an attack reaches enters into a bound: one for each certificate and direction serves all attacks.
    bounds = {
        (*key, targeted): certificate.scores(
            codes, targets if targeted else labels, scenes.labels, bound="upper" if targeted else "lower", seconds=0.05
        ).values
        for key, certificate in certificates.items()
        for targeted in (False, True)
    }
    return Victim(encoder, known, images, labels, targets, codes, scenes.labels, certificates, bounds)


def test_the_victim_has_certain_bits_and_others(victim):
    for method in METHODS:
        near, far = (victim.certificates[method, epsilon].certified.mean() for epsilon in EPSILONS)
        assert 0 < near < 1 and far < near
    assert victim.certificates["ibp", EPSILONS[1]].certified.mean() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_attack_gets_below_a_certificate(victim, name):
    for epsilon in EPSILONS:
        attack = build_attack(name, epsilon, victim.known, num_steps=2)
        wanted = victim.targets if attack.targeted else victim.labels
        for seed in (0, 1):
            seeds = tf.constant([seed, 7])
            images = attack(victim.encoder, tf.constant(victim.images), tf.constant(wanted, tf.float32), seeds)
            codes = victim.encoder.encode(images).numpy()
            for method in METHODS:
                check(victim, (method, epsilon), codes, wanted, attack.targeted)


def check(victim, key, codes, wanted, targeted):
    certificate, known = victim.certificates[key], victim.bounds[*key, targeted]
    flipped = np.unpackbits(codes ^ certificate.codes, axis=1).astype(bool)
    assert not (flipped & certificate.certified).any()
    spent = np.where(flipped, certificate.flip_costs, 0).sum(axis=1)
    assert (spent <= certificate.budgets).all()
    reached = average_precisions(
        codes, victim.database_codes, wanted, victim.database_labels,
        tie_rule="optimistic" if targeted else "pessimistic", denominator="relevant",
    )  # fmt: skip
    assert (reached <= known).all() if targeted else (reached >= known).all()
