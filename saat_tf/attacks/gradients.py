"""An objective and the slopes of pixels, right also through a network of 16 bits."""

from collections.abc import Callable

import tensorflow as tf

from saat_tf.attacks.encoder import check_code_length
from saat_tf.attacks.objectives import Goal, Objective

# The largest slope that enters the network on the way back. Half precision goes from 6e-8 to 65504: here small networks
# lose nothing below, and have room above.
LARGEST_SLOPE = 16.0
EXPONENT_BITS = 0x7F800000
TINY = 2.0**-100


def gain_and_slopes(
    relax: Callable[[tf.Tensor], tf.Tensor], objective: Objective, images: tf.Tensor, goal: Goal
) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute J(h(x)) and its slopes, dJ/dx = (c dJ/dh) dh/dx / c, with c a power of two.

    Pixel slopes at alpha 0.1 fall below the smallest number of half precision. So c brings the largest |dJ/dh| of the
    batch between 16 and 32 before it goes back through the network, as loss scaling does. In float32 it changes
    nothing.

    Args:
        relax: images -> relaxed codes (B, K).
        objective: (relaxed codes, goal) -> (B,).
        images: float32 (B, H, W, 3).
        goal: what the objective reads.

    Returns:
        J, float32 (B,), and its slopes, float32 (B, H, W, 3).

    Raises:
        ValueError: the codes do not depend on the images by operations with a gradient, or they and the wanted codes
            differ in length.

    Example:
        >>> def relax(x):
        ...     return tf.tanh(1e-7 * tf.cast(tf.reduce_sum(tf.cast(x, tf.float16), (1, 2)), tf.float32))
        >>> gain, slopes = gain_and_slopes(relax, lambda h, t: tf.reduce_mean(h, -1), tf.ones((1, 2, 2, 3)), None)
        >>> 0.98 < 3e7 * float(slopes[0, 0, 0, 0]) < 1.02
        True

    References:
        Micikevicius et al., "Mixed Precision Training", ICLR 2018.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        relaxed_codes = tf.cast(relax(images), tf.float32)
    wanted_codes = goal.get("codes") if isinstance(goal, dict) else goal
    if wanted_codes is not None:
        check_code_length(relaxed_codes, wanted_codes)
    with tf.GradientTape(watch_accessed_variables=False) as code_tape:
        code_tape.watch(relaxed_codes)
        gain = objective(relaxed_codes, goal)
    code_slopes = code_tape.gradient(gain, relaxed_codes)
    scale = LARGEST_SLOPE / tf.maximum(_power_of_two(tf.reduce_max(tf.abs(code_slopes))), TINY)
    slopes = tape.gradient(relaxed_codes, images, output_gradients=scale * code_slopes)
    if slopes is None:
        raise ValueError(
            "An attack needs the gradient of the codes with respect to the images. Received: an encoder without one. "
            "Look for rounding, an argmax or a NumPy function in it; give the numbers in front of the sign."
        )
    return gain, slopes / scale


def _power_of_two(value: tf.Tensor) -> tf.Tensor:
    """Return the largest power of two that is not above a positive float32: its exponent alone, so it is exact."""
    return tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(value, tf.int32), EXPONENT_BITS), tf.float32)
