"""HAG: drive a query away from its own code, without any label."""

import tensorflow as tf

from saat_tf.attacks.attack import GradientAttack
from saat_tf.attacks.encoder import Encoder, relaxed_codes
from saat_tf.attacks.pgd import PGD
from saat_tf.attacks.rules import GradientStep
from saat_tf.attacks.schedules import rising_alphas
from saat_tf.codes import sign
from saat_tf.threat_model import ThreatModel

# The authors step by 100 times the gradient of a mean over a batch of 32; here the gradient is that of each image.
LEARNING_RATE, MOMENTUM = 100 / 32, 0.9
# A bit that differs from the clean one by this much in relaxed codes counts as flipped.
FLIPPED_BY = 1.5


def hag_objective(relaxed_codes: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
    """Compute -( (mean over active bits of h_k b_k) + 1 )^2 - (mean_k a_k h_k)^2 with b = -t the clean code.

    Bit k is active, a_k = 1, as long as |h_k - b_k| < 1.5. The second term keeps the codes balanced.

    Args:
        relaxed_codes: h, float (B, K) in [-1, 1].
        wanted_codes: t, float (B, K) of -1/+1, opposite to the clean codes.

    Returns:
        float (B,), at most 0; -1 where no bit is active, as the published formula has it.

    Example:
        >>> hag_objective(tf.constant([[1.0, -1.0]]), tf.constant([[-1.0, 1.0]])).numpy().tolist()
        [-4.0]

    References:
        Yang et al., "Adversarial Examples for Hamming Space Search", IEEE Transactions on Cybernetics 2020; constants
        of the SAAT authors' comparison.
    """
    clean_codes = -wanted_codes
    active = tf.cast(tf.abs(relaxed_codes - clean_codes) < FLIPPED_BY, relaxed_codes.dtype)
    held = tf.math.divide_no_nan(
        tf.reduce_sum(active * relaxed_codes * clean_codes, axis=-1), tf.reduce_sum(active, axis=-1)
    )
    balance = tf.reduce_mean(active * relaxed_codes, axis=-1)
    return -tf.square(held + 1.0) - tf.square(balance)


def hag_attack(epsilon: float, *, num_steps: int = 100) -> GradientAttack:
    """Compose HAG: heavy-ball ascent from the image itself; the labels are not read.

    Args:
        epsilon: radius of the ball in pixel units of [0, 1]; 8/255 in the SAAT authors' comparison.
        num_steps: 100 there.

    Example:
        >>> hag_attack(8 / 255).name
        'hag'

    References:
        See `hag_objective`. Differs from the SAAT authors' code: their step divides by the size of the batch at hand,
        so that a last, smaller batch is attacked harder.
    """
    pgd = PGD(
        threat_model=ThreatModel(epsilon),
        objective=hag_objective,
        rule=GradientStep(LEARNING_RATE, MOMENTUM),
        num_steps=num_steps,
        schedule=rising_alphas,
        random_start=False,
    )
    return GradientAttack(name="hag", targeted=False, goal=_opposite_of_clean, pgd=pgd)


def _opposite_of_clean(encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return -sign(relaxed_codes(encoder, images))
