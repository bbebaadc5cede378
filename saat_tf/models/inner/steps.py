"""The published inner attack, and with few steps of half the radius a fast one."""

import dataclasses

import keras
import tensorflow as tf

from saat_tf.attacks import PGD, SignStep, alignment
from saat_tf.models.inner.base import InnerAttack, InnerStep
from saat_tf.threat_model import ThreatModel

SMALLEST_STEP = 1e-6


@keras.saving.register_keras_serializable(package="saat_tf")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps(InnerAttack):
    """Steps of projected gradient ascent from a random point of the ball: the loop of `saat_tf.attacks.PGD`.

        x_0 = a uniform point of the ball;   x_{t+1} = project( x_t + step_size sign(grad_x mean_k h_k t_k) )

    Args:
        num_steps: at least 1; 7 in SAAT's code.
        step_size: float in (0, 1], pixel units of [0, 1]; 2/255 in SAAT's code, half the radius in trainings of two
            steps.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> Steps(num_steps=2, step_size=half_radius(ThreatModel.from_255(8))).passes
        2

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
        Andriushchenko and Flammarion, "Understanding and Improving Fast Adversarial Training", NeurIPS 2020: two steps
        of half the radius. They start at the image itself, here the start is random whatever the number of steps.
    """

    num_steps: int
    step_size: float

    def __post_init__(self) -> None:
        self._loop(ThreatModel(0.0))  # checks the numbers

    @property
    def passes(self) -> int:
        """Passes to the pixels."""
        return self.num_steps

    def perturb(self, step: InnerStep, images: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
        """Return adversarial images inside the ball."""
        return self._loop(step.threat_model)(step.relax, images, wanted_codes, step.seed)

    def _loop(self, threat_model: ThreatModel) -> PGD:
        rule = SignStep(self.step_size)
        return PGD(threat_model=threat_model, objective=alignment, rule=rule, num_steps=self.num_steps)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "Steps":
        """Make it from `get_config`."""
        return cls(**config)


def half_radius(threat_model: ThreatModel) -> float:
    """Return the step size of trainings of two and three steps, which reaches the edge of the ball in two.

    Example:
        >>> half_radius(ThreatModel.from_255(8)) == 4 / 255
        True
    """
    return max(threat_model.epsilon / 2, SMALLEST_STEP)


def stronger(inner: InnerAttack, threat_model: ThreatModel) -> Steps:
    """Return what takes the place of an inner attack that the model has learned to mislead: steps, twice its passes.

    `Steps` keep their size, other attacks go over to steps of half the radius.

    Example:
        >>> stronger(Steps(num_steps=7, step_size=0.01), ThreatModel(0.1))
        Steps(num_steps=14, step_size=0.01)
    """
    step_size = inner.step_size if isinstance(inner, Steps) else half_radius(threat_model)
    return Steps(num_steps=2 * max(inner.passes, 1), step_size=step_size)
