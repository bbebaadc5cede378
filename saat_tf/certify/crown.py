"""CROWN-IBP: linear bounds from the logits back to the pixels, with interval bounds in front of every ReLU.

For s z, where s is the sign of a clean logit, a linear function A x + c below it is carried from step to step:

    affine   A (W x + b) >= (A W) x + A b - |A| rounding
    ReLU     over [l, u] with l < 0 < u:   a x <= ReLU(x) <= u (x - l) / (u - l),   a = 1 where u > -l, else 0;
             positive entries of A take the lower line, negative ones the upper

At the pixels the least value over the box is A^+ low + A^- high + c. A bit cannot flip where that is positive.

References:
    Zhang et al., "Efficient Neural Network Robustness Certification with General Activation Functions", NeurIPS 2018
    (CROWN); Zhang et al., "Towards Stable and Efficient Training of Verifiably Robust Neural Networks", ICLR 2020.
"""

from collections.abc import Sequence

import tensorflow as tf

from saat_tf.certify.intervals import Interval
from saat_tf.certify.steps import Affine, Step

# The arithmetic here is float64; its rounding is at most 2^-29 of that of float32, times the number of steps, and the
# term for float32 below has the same products. This share more of it covers both.
FLOAT64_SHARE = 1e-5


def least_margins(steps: Sequence[Step], boxes: Sequence[Interval], signs: tf.Tensor) -> tf.Tensor:
    """Bound s z from below over the box of the pixels, for the z that float32 computes in any order of summation.

    Args:
        steps: affine ones and ReLUs, from the pixels to the logits.
        boxes: from `intervals.propagate`, float64, of these steps.
        signs: (B, K) of -1 and +1.

    Returns:
        float64 (B, K).

    Raises:
        ValueError: a step has no linear bounds; the message names its layer.
    """
    slopes = tf.linalg.diag(tf.cast(signs, tf.float64))  # A: (B, K, ...), one row for each bit
    least = tf.zeros(tf.shape(signs), tf.float64)
    for step, box in zip(reversed(steps), reversed(boxes[:-1]), strict=True):
        if isinstance(step, Affine):
            offset, _ = step.bias(tf.float64)
            error = step.rounding(tf.maximum(tf.abs(box.low), tf.abs(box.high))) * (1 + FLOAT64_SHARE)
            least += _sums(slopes * offset) - _sums(tf.abs(slopes) * error[:, None])
            shape, size = tf.shape(slopes), box.low.shape[1:]
            flat = step.transposed(tf.reshape(slopes, tf.concat([[-1], shape[2:]], axis=0)), size)
            slopes = tf.reshape(flat, tf.concat([shape[:2], size], axis=0))
        elif step.is_relu:
            slopes, moved = _through_relu(slopes, box)
            least += moved
        else:
            raise ValueError(
                f"Layer {step.name!r} has no linear bounds: CROWN knows affine layers and ReLU. Certify this model by "
                "ibp, margin or smoothing."
            )
    return least + _sums(tf.maximum(slopes, 0) * boxes[0].low[:, None] + tf.minimum(slopes, 0) * boxes[0].high[:, None])


def _through_relu(slopes: tf.Tensor, box: Interval) -> tuple[tf.Tensor, tf.Tensor]:
    """Return A in front of the ReLU (B, K, ...), and what its lines add (B, K)."""
    low, high = tf.minimum(box.low, 0.0), tf.maximum(box.high, 0.0)
    chord = tf.math.divide_no_nan(high, high - low)
    lower_slope = tf.cast(high > -low, tf.float64)
    positive, negative = tf.maximum(slopes, 0), tf.minimum(slopes, 0)
    moved = _sums(negative * (-chord * low)[:, None])
    return positive * lower_slope[:, None] + negative * chord[:, None], moved


def _sums(values: tf.Tensor) -> tf.Tensor:
    """Add up what each row has: (B, K, ...) -> (B, K)."""
    return tf.reduce_sum(values, axis=tf.range(2, tf.rank(values)))
