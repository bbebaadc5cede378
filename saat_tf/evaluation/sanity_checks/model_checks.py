"""The checks put to work: on a model and a few of its queries, and on the scores of stored attacks."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from saat_tf.attacks import Attack, GradientAttack
from saat_tf.attacks.encoder import Encoder, relaxed_codes
from saat_tf.attacks.gradients import gain_and_slopes
from saat_tf.attacks.objectives import Goal
from saat_tf.attacks.trajectory import trajectory
from saat_tf.codes import pack_codes
from saat_tf.data import RetrievalData, evaluation_batches
from saat_tf.evaluation.evaluate import EncodedData
from saat_tf.evaluation.sanity_checks import checks, map_checks
from saat_tf.evaluation.sanity_checks.checks import Finding
from saat_tf.evaluation.scores import DefenseScores, series
from saat_tf.metrics import mean_average_precision

# Attacks that see codes and no gradient.
BLACK_BOXES = ("square",)


def run_model_checks(
    encoder: Encoder,
    data: RetrievalData,
    encoded: EncodedData,
    attack: Attack,
    labels: np.ndarray,
    *,
    num_images: int = 32,
    seed: int = 0,
) -> list[Finding]:
    """Check on the first queries what only the model can tell: its slopes, its constancy, and the attack's trajectory.

    A gradient attack is run twice on `num_images` images, once to record its objective. Nothing of the model changes.

    Args:
        encoder: the model under attack.
        data: its first queries are attacked, its database is searched.
        encoded: codes of `data` under the encoder.
        attack: the attack to check. Slopes and objective are looked at where it is a `GradientAttack`.
        labels: (Q, C) of 0/1, those of the queries or, for a targeted attack, of their targets.
        num_images: how many queries.
        seed: of the attack.

    Returns:
        Findings, raised or not.
    """
    images = next(iter(evaluation_batches(data.test, num_images)))[0]
    labels = np.asarray(labels[: len(images)], np.float32)
    seed = tf.constant([seed, 0], tf.int32)

    @tf.function
    def relax(x: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
        return relaxed_codes(encoder, x, alpha)

    adversarial_images = tf.function(lambda: attack(encoder, images, tf.constant(labels), seed))()
    codes = relax(images, 1.0).numpy()
    findings = [
        checks.stochastic_model(codes, relax(images, 1.0).numpy()),
        checks.left_ball(
            np.abs(adversarial_images.numpy() - images.numpy()).max(axis=(1, 2, 3)), attack.threat_model.epsilon * 255
        ),
    ]

    def score(x: tf.Tensor) -> float:
        packed = pack_codes(relax(x, 1.0)).numpy()
        return mean_average_precision(packed, encoded.database, labels, data.database.labels)

    noise = attack.threat_model.random_start(images, seed)
    findings.append(map_checks.noise_wins(score(adversarial_images), score(noise), targeted=attack.targeted))
    if isinstance(attack, GradientAttack):
        alphas = attack.pgd.schedule(attack.pgd.num_steps)
        goal = attack.goal(encoder, images, tf.constant(labels), seed)
        findings += [
            checks.saturated_bits(relax(images, min(alphas)).numpy(), min(alphas)),
            checks.zero_gradients(_gradients(attack, relax, noise, goal, alphas[0]).numpy()),
            checks.still_rising(_trajectory(attack, relax, images, goal, seed).numpy()),
        ]
    return findings


def _gradients(attack: GradientAttack, relax: Callable, images: tf.Tensor, goal: Goal, alpha: float) -> tf.Tensor:
    return gain_and_slopes(lambda x: relax(x, alpha), attack.pgd.objective, images, goal)[1]


def _trajectory(attack: GradientAttack, relax: Callable, images: tf.Tensor, goal: Goal, seed: tf.Tensor) -> tf.Tensor:
    """Return the attack's score at alpha 1 before each step and after the last: float32 (steps + 1, B)."""
    return tf.function(
        lambda: trajectory(attack.pgd, lambda x: attack.score(relax(x, 1.0), goal), relax, images, goal, seed)
    )()


def check_scores(scores: DefenseScores, chance: float, *, defended: bool) -> list[Finding]:
    """Check what the scores of stored attacks tell of each other.

    Args:
        scores: of one model.
        chance: `saat_tf.metrics.chance_map` of the queries.
        defended: whether the model claims to withstand attacks.

    Returns:
        Findings, raised or not; each message begins with the attack that it is about.
    """
    findings = []
    for x in scores.attacks:
        one = x.attacked
        about = f"{one.attack}, {one.epsilon_255:g}/255, {one.num_steps} steps"
        linf = one.perceptibility[0]
        findings += [
            _of(about, checks.left_ball(linf, one.epsilon_255)),
            _of(about, map_checks.above_clean(x.before.map, x.score.map, targeted=one.targeted)),
        ]
    for of in ("steps", "epsilon"):
        for targeted, attacks in ((False, scores.non_targeted), (True, scores.targeted)):
            for name, points in series(attacks, of).items():
                values = [(place, attack.score.map) for place, attack in points]
                findings.append(_of(name, map_checks.more_attacks_less(values, of, targeted=targeted)))
    for black in scores.non_targeted:
        epsilon = black.attacked.epsilon_255
        white = [
            x.score.map
            for x in scores.non_targeted
            if x.attacked.attack not in BLACK_BOXES and x.attacked.epsilon_255 == epsilon
        ]
        if black.attacked.attack in BLACK_BOXES and white:
            finding = map_checks.black_box_wins(min(white), black.score.map)
            findings.append(_of(f"{black.attacked.attack}, {epsilon:g}/255", finding))
    if defended and scores.non_targeted:
        findings.append(_of("worst case", map_checks.below_chance(scores.worst.map, chance)))
    return findings


def _of(about: str, finding: Finding) -> Finding:
    return dataclasses.replace(finding, message=f"{about}: {finding.message}")
