"""Checks that warn where a robustness figure cannot be trusted; docs/evaluation.md explains each.

Each check is a pure function of what was measured. Masked gradients, attacks that stopped early and random
models make a model look robust that is not: an attack that fails for such a reason says nothing about the model.
"""

import dataclasses

import numpy as np

from saat_tf.threat_model import ROUNDING, from_255

# An image without any gradient is not attacked at all: one in a hundred is enough to shift a MAP by a visible amount.
ZERO_IMAGES = 0.01
# ReLU and pooling leave some pixels without a slope in a sound model; most of them is no longer that.
ZERO_PIXELS = 0.5
# Beyond this the slope of tanh, 1 - h^2, is below 0.002; a tenth of the bits is the most that is tolerated.
SATURATED, SATURATED_BITS = 0.999, 0.1
# The last tenth of the steps of an attack that has converged adds almost nothing.
LAST_STEPS, LATE_GAIN = 0.1, 0.05
# Float32 sums in another order, as some devices make them, differ by less.
SAME_CODE = 1e-4


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of a check.

    Args:
        check: name of the check, a heading of docs/evaluation.md.
        raised: whether it warns.
        message: what was measured, in one sentence.
        remedy: what to do where it warns.
    """

    check: str
    raised: bool
    message: str
    remedy: str


def zero_gradients(gradients: np.ndarray) -> Finding:
    """Warn where the gradient that the attack ascends is zero.

    Args:
        gradients: float (B, H, W, channels), of the attack's objective with respect to the pixels it starts from.

    Returns:
        A finding, raised where more than 1% of the images have a gradient that is zero everywhere or not finite, or
        more than half of all pixel values have one that is exactly zero.

    Raises:
        ValueError: there is no gradient.

    Example:
        >>> zero_gradients(np.ones((2, 4, 4, 3))).raised, zero_gradients(np.zeros((2, 4, 4, 3))).raised
        (False, True)
    """
    gradients = _filled("gradients", gradients)
    each = gradients.reshape(len(gradients), -1)
    images = float(np.mean(~np.isfinite(each).all(axis=1) | (each == 0).all(axis=1)))
    pixels = float(np.mean(each == 0))
    return Finding(
        "zero-gradients",
        images > ZERO_IMAGES or pixels > ZERO_PIXELS,
        f"{images:.1%} of the images have no usable gradient, {pixels:.1%} of the pixel values one of exactly zero.",
        "Look for a rounding, a sign or a saturated tanh before the code; attack with a smaller alpha, or with a black "
        "box.",
    )


def saturated_bits(relaxed_codes: np.ndarray, alpha: float) -> Finding:
    """Warn where the tanh of bits is saturated, so that the attack has no gradient.

    Args:
        relaxed_codes: float (B, K) in [-1, 1], of clean images at `alpha`.
        alpha: the smallest sharpness of the tanh that the attack uses.

    Returns:
        A finding, raised where more than 10% of the bits have |h| > 0.999.

    Raises:
        ValueError: there is no code.

    Example:
        >>> saturated_bits(np.array([[0.2, -0.7]]), 1.0).raised, saturated_bits(np.array([[1.0, -1.0]]), 1.0).raised
        (False, True)
    """
    share = float(np.mean(np.abs(_filled("relaxed_codes", relaxed_codes)) > SATURATED))
    return Finding(
        "saturated-bits",
        share > SATURATED_BITS,
        f"{share:.1%} of the bits have |h| > {SATURATED} at alpha {alpha:g}, the smallest that the attack uses.",
        "Attack with a schedule of smaller alphas, so that every bit has a slope.",
    )


def still_rising(objective: np.ndarray) -> Finding:
    """Warn where the attack was stopped before it converged.

    Args:
        objective: float (T,) or (T, B), what the attack maximizes before each step and after the last, at one alpha.

    Returns:
        A finding, raised where the last 10% of the steps bring more than 5% of the whole rise of the mean.

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    Example:
        >>> still_rising(np.linspace(0, 1, 101)).raised, still_rising(1 - 0.9 ** np.arange(101)).raised
        (True, False)
    """
    curve = _filled("objective", objective)
    curve = curve.reshape(len(curve), -1).mean(axis=1)
    if len(curve) < 2 or not np.isfinite(curve).all():
        raise ValueError(f"`objective` must contain at least two finite values. Received: {curve.tolist()}.")
    last = max(1, round(LAST_STEPS * (len(curve) - 1)))
    rise = float(curve.max() - curve[0])
    late = float(curve[-1] - curve[-1 - last])
    return Finding(
        "still-rising",
        late > LATE_GAIN * rise > 0,
        f"The objective went from {curve[0]:.3f} to {curve[-1]:.3f}; the last {last} of {len(curve) - 1} steps brought "
        f"{late:.3f} of that.",
        "Increase the number of steps until the result no longer changes.",
    )


def stochastic_model(first_codes: np.ndarray, second_codes: np.ndarray) -> Finding:
    """Warn where the model is random at test time.

    Args:
        first_codes: relaxed codes float (B, K) of some images.
        second_codes: those of the same images, computed again.

    Returns:
        A finding, raised where the two differ by more than the rounding of float32.

    Raises:
        ValueError: there is no code, or the shapes differ.

    Example:
        >>> codes = np.array([[0.5, -0.5]])
        >>> stochastic_model(codes, codes).raised, stochastic_model(codes, -codes).raised
        (False, True)
    """
    first, second = _filled("first_codes", first_codes), _filled("second_codes", second_codes)
    if first.shape != second.shape:
        raise ValueError(f"Both passes must give codes of one shape. Received: {first.shape} and {second.shape}.")
    reach = float(np.abs(first - second).max())
    flipped = float(np.mean((first >= 0) != (second >= 0)))
    return Finding(
        "stochastic-model",
        not reach <= SAME_CODE,
        f"Two passes over the same images differ by up to {reach:.2g}; {flipped:.1%} of the bits differ.",
        "Turn dropout and random layers off at test time; where the randomness is the defense, attack its expectation "
        "over many draws.",
    )


def left_ball(linf: np.ndarray, epsilon_255: float) -> Finding:
    """Warn where an adversarial image is farther from its image than allowed.

    Args:
        linf: float, the largest |x' - x| of each image, in pixel units of [0, 1].
        epsilon_255: the radius in units of 1/255.

    Returns:
        A finding, raised where one lies outside or is not finite.

    Raises:
        ValueError: there is no image, or `epsilon_255` is not in [0, 255].

    Example:
        >>> left_ball(np.array([0.03]), 8).raised, left_ball(np.array([0.04]), 8).raised
        (False, True)
    """
    reach = float(_filled("linf", linf).max())
    return Finding(
        "left-ball",
        not reach <= from_255(epsilon_255) + ROUNDING,
        f"Adversarial images reach {reach * 255:.3f}/255 from their images; {epsilon_255:g}/255 is allowed.",
        "Project onto the ball after the last change of the image, and score what is returned.",
    )


def _filled(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if not values.size or not values.ndim:
        raise ValueError(f"`{name}` must contain at least one value. Received shape {values.shape}.")
    return values
