"""Stopping early: the same steps, taken by fewer images, each stop where a loop in NumPy has it too."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import (
    PGD,
    EarlyStop,
    GradientAttack,
    HalvingStep,
    SignStep,
    build_attack,
    can_stop_early,
    early_stop,
    published_steps,
)
from saat_tf.attacks.named import ATTACKS, Knowledge
from saat_tf.attacks.objectives import adaptive_alignment, hinged_alignment
from saat_tf.attacks.pta import smooth_ap
from saat_tf.attacks.schedules import constant_alphas, rising_alphas
from saat_tf.layers import CodeBank
from saat_tf.threat_model import ThreatModel

PIXELS, BITS, ROWS = 4 * 4 * 3, 6, 12
BALL = ThreatModel.from_255(8)
SEED = tf.constant([3, 4])


class TanhModel:
    """h = tanh(alpha (x - 0.5) W), each pixel in one bit, so that no bit is won at the cost of another."""

    def __init__(self):
        rng = np.random.default_rng(0)
        weights = rng.choice([-1, 1], (PIXELS, BITS)) * rng.uniform(2, 8, (PIXELS, BITS))
        self.weights = (weights * (np.arange(PIXELS)[:, None] % BITS == np.arange(BITS))).astype(np.float32)
        self.traces = 0

    def __call__(self, images, alpha, training):
        assert not training
        self.traces += 1
        return tf.tanh(alpha * tf.matmul(tf.reshape(images, (-1, PIXELS)) - 0.5, self.weights))


def batch(rows=ROWS):
    """Images, the first ones easy to attack and the last ones hard, and wanted codes of -1/+1, whose labels are 0/1."""
    rng = np.random.default_rng(1)
    images = 0.5 + rng.normal(size=(ROWS, 4, 4, 3)) * np.linspace(0.001, 0.1, ROWS)[:, None, None, None]
    return images[:rows].clip(0, 1).astype(np.float32), rng.choice(np.float32([-1, 1]), (ROWS, BITS))[:rows]


def attack_of(rule=None, num_steps=100, schedule=rising_alphas, objective=adaptive_alignment):
    pgd = PGD(
        threat_model=BALL, objective=objective, rule=rule or SignStep(1 / 255), num_steps=num_steps, schedule=schedule
    )
    return GradientAttack(
        name="codes", targeted=True, goal=lambda encoder, images, labels, seed: 2 * labels - 1, pgd=pgd
    )


HALVING = {"rule": HalvingStep(), "schedule": constant_alphas, "objective": hinged_alignment}


@pytest.mark.slow
@pytest.mark.parametrize("parts", [{}, HALVING, {"num_steps": 37}], ids=["sign", "halving", "37 steps"])
def test_where_no_image_stops_the_result_is_that_of_the_attack_bit_for_bit(monkeypatch, parts):
    monkeypatch.setattr(early_stop, "LEAST_GAIN", -np.inf)
    images, wanted = batch()
    images, wanted = images[-3:], wanted[-3:]  # none is done before the end
    attack = attack_of(**parts)
    expected = tf.function(attack)(TanhModel(), images, (wanted + 1) / 2, SEED).numpy()
    found, steps = EarlyStop(attack, TanhModel())(tf.constant(images), tf.constant((wanted + 1) / 2), SEED)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert steps.tolist() == [attack.pgd.num_steps] * 3


def look_by_hand(model, x, wanted):
    agreement = np.tanh((x.reshape(len(x), -1) - 0.5) @ model.weights) * wanted
    return np.minimum(agreement, 0.5).mean(axis=1), (agreement >= 0.5).all(axis=1)


def early_stop_by_hand(model, images, wanted, start, num_steps):
    """Sign steps on the adaptive objective, one image after the other, in float64; the images and their steps."""
    alphas, results, counts = rising_alphas(num_steps), [], []
    for i in range(len(images)):
        x, image, t = start[i : i + 1].astype(np.float64), images[i : i + 1], wanted[i : i + 1]
        gain, is_done, count, rests_under = look_by_hand(model, image, t)[0], False, 0, None
        for first in range(0, num_steps, 10):
            stretch = alphas[first : first + 10]
            if is_done or set(stretch) == {rests_under}:
                continue
            for alpha in stretch:
                h = np.tanh(alpha * ((x.reshape(1, -1) - 0.5) @ model.weights))
                slope = ((h * t < 0.5) * (1 - h * t) * t * (1 - h**2)) @ model.weights.T
                x = np.clip(x + np.sign(slope).reshape(x.shape) / 255, image - 8 / 255, image + 8 / 255).clip(0, 1)
            count += len(stretch)
            before, (gain, is_done) = gain, look_by_hand(model, x, t)
            stalled = gain - before <= 0.02 and len(set(stretch)) == 1 and stretch[0] != alphas[-1]
            rests_under = stretch[0] if stalled else None
        results.append(x[0])
        counts.append(count)
    return np.stack(results), counts


@pytest.mark.parametrize("num_steps", [100, 45])
def test_each_image_takes_the_steps_of_a_loop_in_numpy(num_steps):
    model, (images, wanted) = TanhModel(), batch()
    attack = attack_of(num_steps=num_steps)
    start = BALL.random_start(tf.constant(images), SEED).numpy()
    expected, counts = early_stop_by_hand(model, images, wanted, start, num_steps)
    assert len(set(counts)) > 2 and min(counts) < num_steps
    found, steps = EarlyStop(attack, model)(tf.constant(images), tf.constant((wanted + 1) / 2), SEED)
    assert steps.tolist() == counts
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


def test_an_attack_of_one_alpha_goes_on_until_the_code_is_the_wanted_one():
    model, (images, wanted) = TanhModel(), batch()
    found, steps = EarlyStop(attack_of(**HALVING), model)(tf.constant(images), tf.constant((wanted + 1) / 2), SEED)
    _, is_done = look_by_hand(model, found.numpy(), wanted)
    assert is_done[steps < 100].all() and 0 < (steps < 100).sum() < ROWS
    whole = tf.function(attack_of(**HALVING))(model, images, (wanted + 1) / 2, SEED).numpy()
    np.testing.assert_allclose(found[steps == 100], whole[steps == 100], rtol=0, atol=1e-6)
    _, is_done_by_all_steps = look_by_hand(model, whole, wanted)
    np.testing.assert_array_equal(is_done, is_done_by_all_steps)


def test_batches_of_all_sizes_share_one_trace():
    model = TanhModel()
    stopping, (images, wanted) = EarlyStop(attack_of(), model), batch()
    stopping(tf.constant(images), tf.constant((wanted + 1) / 2), SEED)
    traces = model.traces
    for rows in (1, 5):
        found, steps = stopping(tf.constant(images[:rows]), tf.constant((wanted[:rows] + 1) / 2), SEED + 1)
        assert found.shape == (rows, 4, 4, 3) and steps.shape == (rows,)
    # A look at the beginning, a step and a look, two looks at the end: each traced once, whatever the batch.
    assert model.traces == traces == 5


def test_only_attacks_on_one_code_by_sign_or_halving_steps_stop_early():
    bank = CodeBank.from_labels(np.eye(4), code_length=16)
    known = Knowledge(bank, bank, prototype_codes=lambda labels: tf.ones((len(labels), 16)))
    names = [name for name in ATTACKS if name != "pros-gan"]
    built = {name: build_attack(name, BALL.epsilon, known, num_steps=published_steps(name)) for name in names}
    assert {name for name, attack in built.items() if can_stop_early(attack)} == {
        "mainstay", "mainstay-plain", "auto", "center", "p2p", "dhta", "tha", "mainstay-targeted", "auto-targeted",
    }  # fmt: skip
    for attack in (built["hag"], built["square"], dataclasses.replace(attack_of(), score=smooth_ap)):
        with pytest.raises(ValueError, match=r"can stop early. Received: .*Call the attack itself"):
            EarlyStop(attack, TanhModel())
