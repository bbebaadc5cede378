"""The one gradient loop. Every gradient attack here, and the inner loop of training, is this with other parts."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from saat_tf.attacks.objectives import Objective
from saat_tf.attacks.schedules import constant_alphas
from saat_tf.threat_model import ThreatModel

Relax = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on an objective of the relaxed codes.

        x_0 = a uniform point of the ball;   x_{t+1} = project( x_t + step_size * sign( grad_x J(h(x_t; alpha_t), t) ) )

    The gradient is taken with respect to pixels alone. In a graph (`tf.function`, `fit`) no weight gradient is
    computed; run eagerly, TensorFlow computes a convolution's anyway and drops it. Nothing of the model changes as
    long as `relax` changes nothing.

    Args:
        threat_model: ball and pixel range.
        objective: (relaxed codes (B, K), wanted codes (B, K)) -> (B,), larger is nearer to what the attacker wants.
        step_size: float in (0, 1], pixel units of [0, 1].
        num_steps: at least 1.
        schedule: number of steps -> alpha of each step.

    Raises:
        ValueError: `step_size` or `num_steps` is out of range.

    Example:
        >>> from saat_tf.attacks.objectives import alignment
        >>> attack = PGD(ThreatModel.from_255(8), alignment, step_size=2 / 255, num_steps=7)

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
    """

    threat_model: ThreatModel
    objective: Objective
    step_size: float
    num_steps: int
    schedule: Callable[[int], list[float]] = constant_alphas

    def __post_init__(self) -> None:
        if not 0 < self.step_size <= 1:
            raise ValueError(f"`step_size` must be in (0, 1] (pixels of [0, 1]). Received: {self.step_size}.")
        if self.num_steps < 1:
            raise ValueError(f"`num_steps` must be at least 1. Received: {self.num_steps}.")

    def __call__(self, relax: Relax, images: tf.Tensor, wanted_codes: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return adversarial images.

        Args:
            relax: (images, alpha) -> relaxed codes (B, K).
            images: float32 (B, H, W, 3) in [0, 1].
            wanted_codes: float (B, K) of -1/+1; to drive codes away from b, pass -b.
            seed: int32 (2,), of the random start.

        Returns:
            float32 (B, H, W, 3), inside the ball and [0, 1].
        """
        alphas = tf.constant(self.schedule(self.num_steps), tf.float32)

        def step(t: tf.Tensor, adversarial_images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(adversarial_images)
                gain = self.objective(relax(adversarial_images, alphas[t]), wanted_codes)
            gradient = tape.gradient(gain, adversarial_images)
            moved = adversarial_images + self.step_size * tf.sign(gradient)
            return t + 1, self.threat_model.project(moved, images)

        start = self.threat_model.random_start(images, seed)
        _, adversarial_images = tf.while_loop(
            lambda t, _: t < self.num_steps,
            step,
            (tf.constant(0), start),
            shape_invariants=(tf.TensorShape([]), start.shape),
            maximum_iterations=self.num_steps,
        )
        return tf.stop_gradient(adversarial_images)
