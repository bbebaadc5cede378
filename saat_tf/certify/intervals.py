"""Interval bound propagation (IBP): a box of values through each step of a network.

    affine     center c, radius r -> W c + b, |W| r (+ rounding)
    monotone   both ends

References:
    Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", ICCV 2019;
    Mirman et al., "Differentiable Abstract Interpretation for Provably Robust Neural Networks", ICML 2018.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from saat_tf.certify.steps import Affine, Step
from saat_tf.threat_model import ROUNDING, ThreatModel


class Interval(NamedTuple):
    """A box: every entry of the values in question lies in [low, high], tensors (B, ...) of one type."""

    low: tf.Tensor
    high: tf.Tensor


def pixel_box(images: np.ndarray, epsilon: float) -> Interval:
    """Return the box of all that `ThreatModel.verify` lets pass: float32 (B, S, S, 3) -> float64.

    Raises:
        ValueError: epsilon is not in (0, 1].
    """
    check_radius(epsilon)
    images = np.asarray(images, np.float64)
    reach = epsilon + ROUNDING
    return Interval(*(tf.constant(np.clip(images + side * reach, 0.0, 1.0)) for side in (-1, 1)))


def check_radius(epsilon: float) -> None:
    """Raise `ValueError` unless a certificate at this radius makes sense."""
    ThreatModel(epsilon)
    if epsilon == 0:
        raise ValueError("The radius of a certificate must be above 0. Received: epsilon=0.")


def step_interval(step: Step, box: Interval, *, rounding: bool = True) -> Interval:
    """Bound what a step makes of a box.

    Args:
        step: the step.
        box: what goes in.
        rounding: whether to enclose what float32 may make of it, in any order of summation; the arithmetic here should
            then be float64, whose own rounding is smaller by 2^-29 and enclosed too.
    """
    if not isinstance(step, Affine):
        return Interval(step(box.low) - step.error, step(box.high) + step.error)
    center, radius = step((box.low + box.high) / 2), step.apply((box.high - box.low) / 2, True)
    if rounding:
        radius = radius + step.rounding(tf.maximum(tf.abs(box.low), tf.abs(box.high)))
    return Interval(center - radius, center + radius)


def propagate(steps: Iterable[Step], box: Interval) -> list[Interval]:
    """Return the boxes in front of each step and, last, behind all of them."""
    boxes = [box]
    for step in steps:
        boxes.append(step_interval(step, boxes[-1]))
    return boxes


def fixed_bits(box: Interval) -> np.ndarray:
    """Tell which bits cannot flip while the logits are in a box: z >= 0 everywhere, or z < 0 everywhere; bool (B, K).

    A box with NaN fixes nothing.

    Example:
        >>> fixed_bits(Interval(tf.constant([[0.0, -2.0, -1.0]]), tf.constant([[1.0, -1e-9, 0.0]]))).tolist()
        [[True, True, False]]
    """
    return ((box.low >= 0) | (box.high < 0)).numpy()
