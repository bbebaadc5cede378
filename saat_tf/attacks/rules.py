"""Step rules: how an attack moves, given the gradient of its objective.

A rule is asked for a state before the first step and then, at each step, for the next images. What it needs to know of
the attack it asks of a `View`. The loop projects what a rule returns; a rule that needs a projected point itself calls
`View.project`.
"""

import abc
import dataclasses
from collections.abc import Callable

import tensorflow as tf

from saat_tf.random_numbers import fold_in, uniform

State = dict[str, tf.Tensor]
Transform = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class View:
    """State of the attack that a step rule reads at one step.

    Args:
        gain_and_gradient: images (B, H, W, 3) -> (objective (B,), its gradient with respect to the images). A second
            argument transforms the images first; the gradient is still that of the images given.
        project: images -> the nearest images that the attacker is allowed.
        epsilon: radius of the ball, in pixel units of [0, 1].
        num_steps: how many steps the attack takes.
        seed: int (2,), new at each step.
    """

    gain_and_gradient: Callable[..., tuple[tf.Tensor, tf.Tensor]]
    project: Callable[[tf.Tensor], tf.Tensor]
    epsilon: float
    num_steps: int
    seed: tf.Tensor


class StepRule(abc.ABC):
    """Step rule of an attack."""

    def start(self, images: tf.Tensor) -> State:
        """Return the state before the first step, at `images` (B, H, W, 3); stateless unless a rule says otherwise."""
        return {}

    @abc.abstractmethod
    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Return the next images, not yet projected, and the next state; `t` counts steps from 0."""

    def finish(self, images: tf.Tensor, state: State) -> tf.Tensor:
        """Return the images that the attack returns: the last ones unless a rule says otherwise."""
        return images


@dataclasses.dataclass(frozen=True)
class SignStep(StepRule):
    """x + step_size * sign(gradient): BIM and, from a random start, PGD.

    Args:
        step_size: float in (0, 1], pixel units of [0, 1].

    Raises:
        ValueError: `step_size` is out of range.

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.
    """

    step_size: float

    def __post_init__(self) -> None:
        _check_step_size(self.step_size)

    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Return the next images and the empty state."""
        _, gradient = view.gain_and_gradient(images)
        return images + self.step_size * tf.sign(gradient), state


@dataclasses.dataclass(frozen=True)
class MomentumStep(StepRule):
    """MI-FGSM and, by its options, NI-FGSM, SI-NI-FGSM and VMI-FGSM.

        g_{t+1} = decay g_t + d / mean|d|,   x_{t+1} = x_t + step_size sign(g_{t+1})

    where d is the gradient at x_t. With `look_ahead` it is taken at x_t + step_size decay g_t (NI); with `num_scales`
    above 1 it is the mean over the copies x / 2^i (SI); with `num_neighbors` above 0 the deviation of the mean
    gradient of so many neighbors within `neighborhood` epsilon, as found at the step before, is added (VMI).

    Args:
        step_size: float in (0, 1], pixel units of [0, 1].
        decay: at least 0; 1 in the papers.
        look_ahead: whether the gradient is Nesterov's.
        num_scales: at least 1; 5 in the SI-NI paper.
        num_neighbors: at least 0; 5 in the comparison of the SAAT authors, 20 in the VMI paper.
        neighborhood: radius in units of epsilon; 1.5 in the VMI paper.

    Raises:
        ValueError: an option is out of range.

    References:
        Dong et al., CVPR 2018 (MI); Lin et al., ICLR 2020 (NI, SI); Wang and He, CVPR 2021 (VMI).
    """

    step_size: float
    decay: float = 1.0
    look_ahead: bool = False
    num_scales: int = 1
    num_neighbors: int = 0
    neighborhood: float = 1.5

    def __post_init__(self) -> None:
        _check_step_size(self.step_size)
        if not (self.decay >= 0 and self.num_scales >= 1 and self.num_neighbors >= 0 and self.neighborhood > 0):
            raise ValueError(
                "`decay` and `num_neighbors` must be at least 0, `num_scales` at least 1, `neighborhood` above 0. "
                f"Received: {self.decay}, {self.num_neighbors}, {self.num_scales}, {self.neighborhood}."
            )

    def start(self, images: tf.Tensor) -> State:
        """Return zero momentum and, for VMI, zero variance."""
        names = ("momentum", "variance") if self.num_neighbors else ("momentum",)
        return {name: tf.zeros_like(images) for name in names}

    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Return the next images and the next momentum."""
        momentum = state["momentum"]
        place = images + self.step_size * self.decay * momentum if self.look_ahead else images
        gradient = self._gradient(view, place)
        after = {}
        if self.num_neighbors:
            after["variance"] = self._mean_of_neighbors(view, images) - gradient
            gradient = gradient + state["variance"]
        mean = tf.reduce_mean(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
        after["momentum"] = self.decay * momentum + tf.math.divide_no_nan(gradient, mean)
        return images + self.step_size * tf.sign(after["momentum"]), after

    def _gradient(self, view: View, images: tf.Tensor) -> tf.Tensor:
        copies = [view.gain_and_gradient(images, lambda x, share=0.5**i: share * x)[1] for i in range(self.num_scales)]
        return tf.add_n(copies) / self.num_scales

    def _mean_of_neighbors(self, view: View, images: tf.Tensor) -> tf.Tensor:
        radius = self.neighborhood * view.epsilon

        def add(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            seed = fold_in(view.seed, i)
            noise = uniform(tf.shape(images), seed, -radius, radius)
            return i + 1, total + view.gain_and_gradient(images + noise)[1]

        _, total = tf.while_loop(
            lambda i, _: i < self.num_neighbors,
            add,
            (tf.constant(0), tf.zeros_like(images)),
            maximum_iterations=self.num_neighbors,
        )
        return total / self.num_neighbors


@dataclasses.dataclass(frozen=True)
class GradientStep(StepRule):
    """Heavy-ball ascent on the gradient itself, not its sign: v = momentum v + gradient, x + learning_rate v.

    Args:
        learning_rate: above 0.
        momentum: in [0, 1).

    Raises:
        ValueError: an option is out of range.
    """

    learning_rate: float
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and 0 <= self.momentum < 1):
            raise ValueError(
                "`learning_rate` must be above 0 and `momentum` in [0, 1). Received: "
                f"{self.learning_rate} and {self.momentum}."
            )

    def start(self, images: tf.Tensor) -> State:
        """Return zero velocity."""
        return {"velocity": tf.zeros_like(images)}

    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Return the next images and velocity."""
        velocity = self.momentum * state["velocity"] + view.gain_and_gradient(images)[1]
        return images + self.learning_rate * velocity, {"velocity": velocity}


@dataclasses.dataclass(frozen=True)
class AdamStep(StepRule):
    """Adam on the pixels.

    Args:
        learning_rate: pixel units of [0, 1], above 0.

    Raises:
        ValueError: `learning_rate` is not positive.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; its default beta and epsilon.
    """

    learning_rate: float = 0.01

    BETAS = (0.9, 0.999)
    STABILITY = 1e-8

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` must be above 0 (pixels of [0, 1]). Received: {self.learning_rate}.")

    def start(self, images: tf.Tensor) -> State:
        """Return zero moments."""
        return {"first": tf.zeros_like(images), "second": tf.zeros_like(images)}

    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Return the next images and moments."""
        _, gradient = view.gain_and_gradient(images)
        count = tf.cast(t + 1, tf.float32)
        first = self.BETAS[0] * state["first"] + (1 - self.BETAS[0]) * gradient
        second = self.BETAS[1] * state["second"] + (1 - self.BETAS[1]) * tf.square(gradient)
        direction = (first / (1 - self.BETAS[0] ** count)) / (
            tf.sqrt(second / (1 - self.BETAS[1] ** count)) + self.STABILITY
        )
        return images + self.learning_rate * direction, {"first": first, "second": second}


def _check_step_size(step_size: float) -> None:
    if not 0 < step_size <= 1:
        raise ValueError(f"`step_size` must be in (0, 1] (pixels of [0, 1]). Received: {step_size}.")
