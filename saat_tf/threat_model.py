"""Threat model: a ball of radius epsilon around the image, inside the range of valid pixels."""

import dataclasses
import numbers

import numpy as np
import tensorflow as tf

from saat_tf.replicas import uniform_rows

# Clipping to [x - epsilon, x + epsilon] in float32 can leave the ball by the rounding of one sum.
ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class ThreatModel:
    """The L-infinity ball |x' - x| <= epsilon, cut with [0, 1]; the one place that converts units of 1/255.

    Args:
        epsilon: float in [0, 1], the radius in pixel units of [0, 1].

    Raises:
        ValueError: epsilon is no number, or outside [0, 1].

    Example:
        >>> ThreatModel.from_255(8).epsilon == 8 / 255
        True
    """

    epsilon: float

    def __post_init__(self) -> None:
        given: object = self.epsilon
        if not isinstance(given, numbers.Real):
            raise ValueError(
                f"epsilon must be a number in [0, 1], such as 8 / 255. Received: {given!r}. Of a `ThreatModel`, "
                "pass its `epsilon`."
            )
        if not 0 <= self.epsilon <= 1:
            raise ValueError(
                f"epsilon must be in [0, 1] (0 to 255 in units of 1/255). Received: {self.epsilon} "
                f"({self.epsilon * 255:g}/255). The usual radius is 8/255."
            )

    @classmethod
    def from_255(cls, epsilon_255: float) -> "ThreatModel":
        """Make the threat model from a radius in units of 1/255."""
        return cls(from_255(epsilon_255))

    def project(self, adversarial_images: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        """Return the nearest point to `adversarial_images` (B, H, W, 3) that the attacker is allowed."""
        in_ball = tf.clip_by_value(adversarial_images, images - self.epsilon, images + self.epsilon)
        return tf.clip_by_value(in_ball, 0.0, 1.0)

    def random_start(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return a uniform point of the ball around each image, the same for the same `seed` (int, shape (2,))."""
        noise = tf.cast(uniform_rows(tf.shape(images), seed, -self.epsilon, self.epsilon), images.dtype)
        return self.project(images + noise, images)

    def verify(self, adversarial_images: np.ndarray, images: np.ndarray) -> None:
        """Raise `ValueError` if a returned image is missing or not finite, leaves the ball, or leaves [0, 1]."""
        adversarial_images, images = np.asarray(adversarial_images), np.asarray(images)
        if adversarial_images.shape != images.shape:
            raise ValueError(
                f"The attack must return one image for each. Received: shape {adversarial_images.shape} for images of "
                f"shape {images.shape}."
            )
        if not (np.isfinite(adversarial_images).all() and np.isfinite(images).all()):
            raise ValueError("Images or what the attack returned are not finite. Look for NaN weights or NaN pixels.")
        reach = float(np.abs(adversarial_images - images).max(initial=0.0))
        if reach > self.epsilon + ROUNDING:
            raise ValueError(f"The attack left its ball: |x' - x| reaches {reach:.6f}, allowed is {self.epsilon:.6f}.")
        low, high = float(adversarial_images.min(initial=0.0)), float(adversarial_images.max(initial=1.0))
        if low < 0 or high > 1:
            raise ValueError(f"The attack left the pixel range [0, 1]: Received pixels in [{low:.6f}, {high:.6f}].")


def from_255(value_255: float) -> float:
    """Convert a radius or a step from units of 1/255 to pixel units of [0, 1].

    Raises:
        ValueError: the value is negative or above 255.
    """
    if not 0 <= value_255 <= 255:
        raise ValueError(f"Values in units of 1/255 lie in [0, 255]. Received: {value_255}. The usual radius is 8.")
    return value_255 / 255
