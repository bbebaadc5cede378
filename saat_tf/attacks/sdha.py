"""SDHA: push a query away from all relevant items at once, the nearest ones hardest."""

import tensorflow as tf

from saat_tf.attacks.attack import GradientAttack
from saat_tf.attacks.encoder import Encoder, relaxed_codes
from saat_tf.attacks.objectives import Goal
from saat_tf.attacks.pgd import PGD
from saat_tf.attacks.rules import AdamStep
from saat_tf.attacks.schedules import rising_alphas
from saat_tf.codes import sign
from saat_tf.layers import CodeBank
from saat_tf.threat_model import ThreatModel

SHARPNESS, DISTANCE_POWER = 5.0, 0.5
OBJECTIVE_WEIGHT = 25.0
# Keeps the weight of an item at distance 0 finite.
NO_DISTANCE = 1e-8


def sdha_objective(relaxed_codes: tf.Tensor, goal: Goal) -> tf.Tensor:
    """Compute 25/K times the weighted mean surrogate distance to the relevant items.

        d(h, r) = sum_k |h_k - r_k| / 2 * s_k + 1 - s_k,  s_k = sigmoid(5 h_k r_k);   weight D_H(sign h, r)^-1/2

    Since r_k is -1 or +1, the sum over bits is linear in r: one matrix product gives it for all items.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        goal: `codes` (N, K) of -1/+1 and `relevance` (B, N) of 0/1; `clean_codes` (B, K) of -1/+1 stand in for the
            relevant items of an image that has none.

    Returns:
        float (B,), at least 0; larger is farther from the relevant items, the weights being held constant.

    Example:
        >>> goal = {"codes": tf.ones((1, 2)), "relevance": tf.ones((1, 1)), "clean_codes": tf.ones((1, 2))}
        >>> sdha_objective(-tf.ones((1, 2)), goal).numpy().round(1)
        array([17.7], dtype=float32)
    """
    per_item = _weighted_distances(relaxed_codes, goal["codes"])  # (B, N)
    count = tf.reduce_sum(goal["relevance"], axis=1)
    to_relevant = tf.math.divide_no_nan(tf.reduce_sum(goal["relevance"] * per_item, axis=1), count)
    to_itself = tf.linalg.diag_part(_weighted_distances(relaxed_codes, goal["clean_codes"]))
    scale = OBJECTIVE_WEIGHT / tf.cast(tf.shape(relaxed_codes)[1], tf.float32)
    return scale * tf.where(count > 0, to_relevant, to_itself)


def _weighted_distances(relaxed_codes: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """Return d(h, r) D_H(sign h, r)^-1/2 for each pair: (B, K), (N, K) -> (B, N)."""

    def cost(bit: float) -> tf.Tensor:
        agreeing = tf.sigmoid(SHARPNESS * bit * relaxed_codes)
        return 0.5 * tf.abs(relaxed_codes - bit) * agreeing + 1.0 - agreeing

    to_plus, to_minus = cost(1.0), cost(-1.0)
    base = 0.5 * tf.reduce_sum(to_plus + to_minus, axis=1, keepdims=True)  # (B, 1)
    distances = base + 0.5 * tf.matmul(to_plus - to_minus, codes, transpose_b=True)  # (B, K) @ (K, N) -> (B, N)
    code_length = tf.cast(tf.shape(codes)[1], tf.float32)
    bits = 0.5 * (code_length - tf.matmul(sign(relaxed_codes), codes, transpose_b=True))
    return distances * tf.stop_gradient(tf.pow(bits + NO_DISTANCE, -DISTANCE_POWER))


def sdha_attack(epsilon: float, code_bank: CodeBank, *, num_steps: int = 100) -> GradientAttack:
    """Compose SDHA: Adam on the pixels from the image itself, with the mean squared pixel difference taken off.

    Args:
        epsilon: radius of the ball in pixel units of [0, 1]; 8/255 in the SAAT authors' comparison.
        code_bank: codes of the training set under the encoder to attack, and its labels.
        num_steps: 100 there.

    Example:
        >>> import numpy as np
        >>> sdha_attack(8 / 255, CodeBank.from_labels(np.eye(4), code_length=16)).name
        'sdha'

    References:
        Lu et al., "A Smart Adversarial Attack on Deep Hashing Based Image Retrieval", ICMR 2021; constants of the SAAT
        authors' comparison.
    """

    def goal(encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> Goal:
        return {
            "codes": sign(code_bank.codes),
            "relevance": code_bank.relevance(labels),
            "clean_codes": sign(relaxed_codes(encoder, images)),
        }

    pgd = PGD(
        threat_model=ThreatModel(epsilon),
        objective=sdha_objective,
        rule=AdamStep(0.01),
        num_steps=num_steps,
        schedule=rising_alphas,
        random_start=False,
        pixel_weight=1.0,
    )
    return GradientAttack(name="sdha", targeted=False, goal=goal, pgd=pgd, score=mean_distance)


def mean_distance(relaxed_codes: tf.Tensor, goal: Goal) -> tf.Tensor:
    """Compute the mean relaxed Hamming distance (1 - h.r/K) / 2 to the relevant items: float (B,) in [0, 1]."""
    count = tf.reduce_sum(goal["relevance"], axis=1, keepdims=True)
    center = tf.math.divide_no_nan(tf.matmul(goal["relevance"], goal["codes"]), count)  # (B, N) @ (N, K) -> (B, K)
    center = tf.where(count > 0, center, goal["clean_codes"])
    return 0.5 - 0.5 * tf.reduce_mean(relaxed_codes * center, axis=1)
