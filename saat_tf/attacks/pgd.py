"""The one gradient loop. Every gradient attack here, and the inner loop of training, is this with other parts."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from saat_tf.attacks.gradients import gain_and_slopes
from saat_tf.attacks.objectives import Goal, Objective
from saat_tf.attacks.rules import State, StepRule, Transform, View
from saat_tf.attacks.schedules import constant_alphas
from saat_tf.random_numbers import fold_in
from saat_tf.replicas import several
from saat_tf.threat_model import ThreatModel

Relax = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient ascent on an objective of the relaxed codes.

        x_0 = a uniform point of the ball;   x_{t+1} = project( rule( x_t, grad_x J(h(x_t; alpha_t), goal) ) )

    The gradient is taken with respect to pixels alone, in float32. In a graph (`tf.function`, `fit`) no weight gradient
    is computed; run eagerly, TensorFlow computes a convolution's anyway and drops it. Nothing of the model changes as
    long as `relax` changes nothing.

    Args:
        threat_model: ball and pixel range.
        objective: (relaxed codes (B, K), goal) -> (B,), larger is nearer to what the attacker wants.
        rule: how a step is made of a gradient.
        num_steps: at least 1.
        schedule: number of steps -> alpha of each step.
        random_start: whether x_0 is a random point of the ball or the image itself.
        pixel_weight: weight of the mean squared pixel difference that is taken off J; 0 or more.

    Raises:
        ValueError: `num_steps` or `pixel_weight` is out of range.

    Example:
        >>> from saat_tf.attacks.objectives import alignment
        >>> from saat_tf.attacks.rules import SignStep
        >>> ball = ThreatModel.from_255(8)
        >>> attack = PGD(threat_model=ball, objective=alignment, rule=SignStep(2 / 255), num_steps=7)

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
    """

    threat_model: ThreatModel
    objective: Objective
    rule: StepRule
    num_steps: int
    schedule: Callable[[int], list[float]] = constant_alphas
    random_start: bool = True
    pixel_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"`num_steps` must be at least 1. Received: {self.num_steps}.")
        if not self.pixel_weight >= 0:
            raise ValueError(f"`pixel_weight` must be at least 0. Received: {self.pixel_weight}.")

    def __call__(self, relax: Relax, images: tf.Tensor, goal: Goal, seed: tf.Tensor) -> tf.Tensor:
        """Return adversarial images.

        Args:
            relax: (images, alpha) -> relaxed codes (B, K).
            images: float32 (B, H, W, 3) in [0, 1].
            goal: what the objective reads, most often the wanted codes, float (B, K) of -1/+1; to drive codes away
                from b, pass -b.
            seed: int (2,), of everything random.

        Returns:
            float32 (B, H, W, 3), inside the ball and [0, 1].
        """
        images = tf.convert_to_tensor(images)
        adversarial_images, state = self.start(images, seed)
        adversarial_images, state = self.advance(
            relax, adversarial_images, state, images, goal, seed, steps=(0, self.num_steps)
        )
        return tf.stop_gradient(self.rule.finish(adversarial_images, state))

    def start(self, images: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Return x_0 and the state of the rule before the first step."""
        start = self.threat_model.random_start(images, seed) if self.random_start else images
        return start, self.rule.start(start)

    def advance(
        self,
        relax: Relax,
        adversarial_images: tf.Tensor,
        state: State,
        images: tf.Tensor,
        goal: Goal,
        seed: tf.Tensor,
        *,
        steps: tuple[int | tf.Tensor, int | tf.Tensor],
    ) -> tuple[tf.Tensor, State]:
        """Take the steps from the first of `steps` to before the second, and return where that leads.

        Args:
            relax: as for a call, like the rest.
            adversarial_images: x_t, t the first of `steps`.
            state: that of the rule at x_t.
            images: the images around which the ball is.
            goal: what the objective reads.
            seed: that of the whole attack.
            steps: 0 <= first <= end <= `num_steps`.
        """
        alphas = tf.constant(self.schedule(self.num_steps), tf.float32)

        def step(t: tf.Tensor, adversarial_images: tf.Tensor, state: State) -> tuple[tf.Tensor, tf.Tensor, State]:
            view = View(
                lambda x, transform=lambda y: y: self._gain_and_gradient(relax, x, transform, images, goal, alphas[t]),
                project=lambda x: self.threat_model.project(x, images),
                epsilon=self.threat_model.epsilon,
                num_steps=self.num_steps,
                seed=fold_in(seed, t + 1),
            )
            moved, state = self.rule.step(view, adversarial_images, state, t)
            return t + 1, self.threat_model.project(moved, images), state

        first, end = steps
        if several() is not None:
            # Replicas must not meet inside a tf.while_loop, and batch norm in training makes them.
            for t in range(first, end):
                _, adversarial_images, state = step(tf.constant(t), adversarial_images, state)
            return adversarial_images, state
        _, adversarial_images, state = tf.while_loop(
            lambda t, *_: t < end,
            step,
            (tf.convert_to_tensor(first), adversarial_images, state),
            shape_invariants=(
                tf.TensorShape([]),
                adversarial_images.shape,
                tf.nest.map_structure(lambda x: x.shape, state),
            ),
            maximum_iterations=self.num_steps,
        )
        return adversarial_images, state

    def _gain_and_gradient(
        self,
        relax: Relax,
        adversarial_images: tf.Tensor,
        transform: Transform,
        images: tf.Tensor,
        goal: Goal,
        alpha: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        gain, slopes = gain_and_slopes(lambda x: relax(transform(x), alpha), self.objective, adversarial_images, goal)
        if self.pixel_weight:
            difference = adversarial_images - images
            gain -= self.pixel_weight * tf.reduce_mean(tf.square(difference), axis=(1, 2, 3))
            slopes -= 2.0 * self.pixel_weight * difference / tf.cast(tf.size(difference[0]), tf.float32)
        return gain, slopes
