"""PTA: lower a smooth form of the average precision itself."""

import tensorflow as tf

from saat_tf.attacks.attack import GradientAttack
from saat_tf.attacks.encoder import Encoder, relaxed_codes
from saat_tf.attacks.objectives import Goal
from saat_tf.attacks.pgd import PGD
from saat_tf.attacks.rules import SignStep
from saat_tf.attacks.schedules import rising_alphas
from saat_tf.codes import sign
from saat_tf.layers import CodeBank
from saat_tf.threat_model import ThreatModel

TEMPERATURE = 0.1
NUM_STEPS = 20
STEP_SIZE = 1 / 255
# All pairs of a whole database do not fit a laptop. The ranks that count are those of the nearest items.
NEAREST_RELEVANT, NEAREST_UNRELATED = 64, 192


def smooth_ap(relaxed_codes: tf.Tensor, goal: Goal) -> tf.Tensor:
    """Compute minus the smooth average precision of a ranking of some relevant and some unrelated items.

        AP = 1/|P| sum_{i in P} (1 + sum_{j in P, j != i} g_ij) / (1 + sum_{j != i} g_ij),
        g_ij = sigmoid( (c_j - c_i) / tau ),  c_i = h.r_i / K,  tau = 0.1

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        goal: `codes` float (B, P + U, K) of -1/+1, and `relevance` float (B, P + U): 1 for a relevant item, 0 for an
            unrelated one, -1 for a place that is not filled. The relevant ones are among the first 64 places.

    Returns:
        float (B,) in [-1, 0]; 0 where no item is relevant.

    Example:
        >>> codes = tf.constant([[[1.0] * 8, [-1.0] * 8]])
        >>> goal = {"codes": codes, "relevance": tf.constant([[1.0, 0.0]])}
        >>> smooth_ap(tf.ones((1, 8)), goal).numpy().round(3).tolist()
        [-1.0]

    References:
        Brown et al., "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval", ECCV 2020.
    """
    code_length = tf.cast(tf.shape(relaxed_codes)[1], tf.float32)
    nearness = tf.linalg.matvec(goal["codes"], relaxed_codes) / code_length  # (B, M, K) @ (B, K) -> (B, M)
    relevant = tf.cast(goal["relevance"] > 0, tf.float32)
    present = tf.cast(goal["relevance"] >= 0, tf.float32)
    ahead = tf.sigmoid((nearness[:, None, :] - nearness[:, :NEAREST_RELEVANT, None]) / TEMPERATURE)  # (B, P, M)
    size = tf.shape(ahead)
    ahead *= 1.0 - tf.eye(size[1], size[2])
    rank = 1.0 + tf.reduce_sum(ahead * present[:, None, :], axis=2)  # (B, P)
    rank_among_relevant = 1.0 + tf.reduce_sum(ahead * relevant[:, None, :], axis=2)
    weight = relevant[:, :NEAREST_RELEVANT]
    return -tf.math.divide_no_nan(
        tf.reduce_sum(weight * rank_among_relevant / rank, axis=1), tf.reduce_sum(weight, axis=1)
    )


def pta_attack(epsilon: float, code_bank: CodeBank, *, num_steps: int = NUM_STEPS) -> GradientAttack:
    """Compose PTA: PGD on the smooth average precision over the items nearest to the clean query.

    Args:
        epsilon: radius of the ball in pixel units of [0, 1]; 8/255.
        code_bank: codes of the items to rank under the encoder to attack, and their labels.
        num_steps: 20.

    Example:
        >>> import numpy as np
        >>> pta_attack(8 / 255, CodeBank.from_labels(np.eye(4), code_length=16)).pgd.num_steps
        20

    References:
        See `smooth_ap`. Of the items, the 64 nearest relevant and the 192 nearest unrelated ones are ranked.
    """

    def goal(encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> Goal:
        codes = sign(code_bank.codes)
        clean_codes = sign(relaxed_codes(encoder, images))
        nearness = tf.matmul(clean_codes, codes, transpose_b=True)  # (B, N), in [-K, K]
        relevance = code_bank.relevance(labels)
        relevant_items, relevant = _nearest(nearness, relevance > 0, NEAREST_RELEVANT, 1.0)
        unrelated_items, unrelated = _nearest(nearness, relevance == 0, NEAREST_UNRELATED, 0.0)
        return {
            "codes": tf.gather(codes, tf.concat([relevant_items, unrelated_items], axis=1)),
            "relevance": tf.concat([relevant, unrelated], axis=1),
        }

    pgd = PGD(
        threat_model=ThreatModel(epsilon),
        objective=smooth_ap,
        rule=SignStep(STEP_SIZE),
        num_steps=num_steps,
        schedule=rising_alphas,
    )
    return GradientAttack(name="pta", targeted=False, goal=goal, pgd=pgd, score=smooth_ap)


def _nearest(nearness: tf.Tensor, wanted: tf.Tensor, count: int, mark: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the `count` nearest wanted items and `mark` for each, or -1 where there are fewer."""
    lowest = tf.reduce_min(nearness) - 1.0
    room = tf.maximum(count - tf.shape(nearness)[1], 0)
    candidates = tf.pad(tf.where(wanted, nearness, lowest), [[0, 0], [0, room]], constant_values=lowest)
    found, items = tf.math.top_k(candidates, count)
    filled = found > lowest
    return tf.where(filled, items, 0), tf.where(filled, mark, -1.0)
