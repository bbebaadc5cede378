"""Certificates of a network itself: bits that no image in the ball flips, by intervals, linear bounds or margins."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from saat_tf.certify.crown import least_margins
from saat_tf.certify.intervals import Interval, fixed_bits, pixel_box, propagate
from saat_tf.certify.rules import network_steps
from saat_tf.certify.steps import Affine, Step
from saat_tf.codes import sign
from saat_tf.progress import Track, silent

METHODS = ("ibp", "crown")
# Images whose bounds are computed at a time: float64 rows of every bit for every activation.
BATCH = 16


def network_bits(
    model: keras.Model,
    images: np.ndarray,
    epsilon: float,
    *,
    method: str = "ibp",
    batch_size: int = BATCH,
    track: Track = silent,
) -> np.ndarray:
    """Tell which bits no image within |x' - x|_inf <= epsilon and [0, 1] flips.

    What float32 computes is enclosed, whatever the order of its sums: `steps` says how. "crown" certifies every
    bit that "ibp" does.

    Args:
        model: what `rules.network_steps` takes, with logits as its last values.
        images: float32 (Q, S, S, 3) in [0, 1].
        epsilon: radius in pixel units of [0, 1].
        method: "ibp" or "crown".
        batch_size: images at a time.
        track: shows progress.

    Returns:
        bool (Q, K).

    Raises:
        ValueError: a layer without a rule, an unknown method, or a radius that is not in (0, 1].
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}. Received: {method!r}.")
    steps = network_steps(model)
    starts = range(0, len(images), batch_size)
    parts = [
        _batch_bits(steps, images[start : start + batch_size], epsilon, method)
        for start in track(starts, len(starts), f"Bounds by {method}")
    ]
    return np.concatenate(parts)


def _batch_bits(steps: Sequence[Step], images: np.ndarray, epsilon: float, method: str) -> np.ndarray:
    boxes = propagate(steps, pixel_box(images, epsilon))
    fixed = fixed_bits(boxes[-1])
    if method == "ibp":
        return fixed
    signs = sign(tf.cast(boxes[-1].low + boxes[-1].high, tf.float64))
    return fixed | (least_margins(steps, boxes, signs) > 0).numpy()


def lipschitz_constant(steps: Sequence[Step]) -> float:
    """Bound how much the outputs move in L2, at most, for each unit that the images move in L2.

    The product of the norms of the steps: 1 for ReLU and orthogonal layers, the largest singular value of a dense
    kernel, and for a convolution that of its kernel as a matrix on patches, times the root of the patches that a pixel
    is in (Singla & Feizi, "Fantastic Four", ICML 2021, for the idea).
    """
    constant = 1.0
    for step in steps:
        constant *= step.norm() if isinstance(step, Affine) else step.norm
    return constant * (1 + 1e-9)


def margin_costs(model: keras.Model, images: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Compute the joint margin certificate: z_k^2 as the cost of a flip, and L^2 as the price of a unit of r^2.

    z is jointly L-Lipschitz in L2. If the bits F flip between x and x', then |z(x') - z(x)|^2 >= sum_{k in F} z_k^2, so
    they flip together only if sum_{k in F} z_k^2 <= L^2 r^2, r = epsilon sqrt(D). |z_k| is lowered by twice what
    float32 may err anywhere in the ball.

    Args:
        model: as in `network_bits`.
        images: float32 (Q, S, S, 3) in [0, 1].
        epsilon: radius in L-infinity and pixel units of [0, 1].

    Returns:
        Costs, float64 (Q, K) at least 0; the budget L^2 r^2, float64 (Q,); L.

    Raises:
        ValueError: as `network_bits`.
    """
    steps = network_steps(model)
    constant = lipschitz_constant(steps)
    costs, budgets = [], []
    for start in range(0, len(images), BATCH):
        box = pixel_box(images[start : start + BATCH], epsilon)
        pixels = tf.constant(np.asarray(images[start : start + BATCH], np.float64))
        boxes, logits, error = propagate(steps, box), pixels, tf.zeros_like(pixels)
        for step, before, after in zip(steps, boxes, boxes[1:], strict=False):
            logits, error = step(logits), _error_behind(step, before, after, error)
        # What the largest changes of the pixels add up to: fewer than epsilon where [0, 1] cuts the ball.
        reach = tf.maximum(box.high - pixels, pixels - box.low)
        budgets.append(constant**2 * tf.reduce_sum(tf.square(reach), axis=[1, 2, 3]).numpy())
        costs.append(np.maximum(0.0, np.abs(logits.numpy()) - 2 * error.numpy()) ** 2)
    return np.concatenate(costs), np.concatenate(budgets), constant


def _error_behind(step: Step, before: Interval, after: Interval, error: tf.Tensor) -> tf.Tensor:
    """Bound by how much float32 errs behind a step, for `error` (B, ...) in front of it, anywhere in the boxes."""
    if isinstance(step, Affine):
        return step.apply(error, True) + step.rounding(tf.maximum(tf.abs(before.low), tf.abs(before.high)))
    largest = tf.reduce_max(tf.reshape(error, (tf.shape(error)[0], -1)), axis=1)
    return tf.reshape(largest, [-1, *[1] * (len(after.low.shape) - 1)]) * tf.ones_like(after.low) + step.error
