"""One step from strong noise."""

import dataclasses

import keras
import tensorflow as tf

from saat_tf.attacks import alignment
from saat_tf.attacks.gradients import gain_and_slopes
from saat_tf.models.inner.base import InnerAttack, InnerStep
from saat_tf.threat_model import ThreatModel

NOISE = 2.0


@keras.saving.register_keras_serializable(package="saat_tf")
@dataclasses.dataclass(frozen=True)
class NFGSM(InnerAttack):
    """One step of the whole radius from noise of twice the radius, which is not projected back into the ball.

        x_0 = clip(x + u, 0, 1),  u uniform in [-2 epsilon, 2 epsilon];
        x'  = clip(x_0 + epsilon sign(grad mean_k h_k(x_0) t_k), 0, 1)

    Images that training sees may so lie up to 3 epsilon away. Neither clipping to the ball nor weaker noise withstood
    catastrophic overfitting as well.

    Example:
        >>> NFGSM().passes
        1

    References:
        de Jorge et al., "Make Some Noise: Reliable and Efficient Single-Step Adversarial Training", NeurIPS 2022.
    """

    passes = 1

    def perturb(self, step: InnerStep, images: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
        """Return adversarial images in [0, 1]."""
        images = tf.convert_to_tensor(images)
        epsilon = step.threat_model.epsilon
        noisy = ThreatModel(min(NOISE * epsilon, 1.0)).random_start(images, step.seed)
        _, slopes = gain_and_slopes(step.relax, alignment, noisy, wanted_codes)
        return tf.stop_gradient(tf.clip_by_value(noisy + epsilon * tf.sign(slopes), 0.0, 1.0))

    def get_config(self) -> dict:
        """Return the constructor's arguments: there are none."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "NFGSM":
        """Make it from `get_config`."""
        return cls(**config)
