"""A step rule that finds its own step size, one for each image."""

import dataclasses

import tensorflow as tf

from saat_tf.attacks.rules import State, StepRule, View

# Auto-PGD's constants: the share of steps that must gain, the weight of the new step against the old one, and the
# lengths of the stretches between two checks, as shares of all steps: 0.22, then each 0.03 shorter, at least 0.06.
GAINING_SHARE = 0.75
NEW_STEP_WEIGHT = 0.75
FIRST_STRETCH, SHORTER_BY, SHORTEST = 0.22, 0.03, 0.06


def check_points(num_steps: int) -> list[int]:
    """Return the steps after which a step size may be halved.

    Example:
        >>> check_points(100)
        [22, 41, 57, 70, 80, 87, 93, 99]
    """
    points, place, stretch = [], FIRST_STRETCH, FIRST_STRETCH
    while place <= 1:
        points.append(max(1, round(place * num_steps)))
        stretch = max(stretch - SHORTER_BY, SHORTEST)
        place = round(place + stretch, 6)
    return sorted(set(points))


@dataclasses.dataclass(frozen=True)
class HalvingStep(StepRule):
    """Auto-PGD: sign steps with inertia that start at 2 epsilon and halve, image by image, when the objective stalls.

        z = project(x + step sign(gradient)),   x' = project(x + 0.75 (z - x) + 0.25 (x - x_before))

    The first step is whole, x' = z. At each check point, an image whose objective rose in fewer than 75% of the steps
    since the last one, or whose step was not halved there and whose best value has not changed since, halves its step
    and goes back to its best place, from where it starts without inertia. The images returned are the best ones met.

    It compares objectives of different steps, so use it with a constant alpha.

    References:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", ICML 2020, Algorithm 1.
    """

    def start(self, images: tf.Tensor) -> State:
        """Return the state of a search that has seen nothing yet."""
        count = tf.shape(images)[0]
        never, zeros = tf.fill((count,), -float("inf")), tf.zeros((count,))
        # The first look is not the end of a step: it counts neither as a gain nor among the steps seen.
        return {
            "before": images,
            "best": images,
            "best_gradient": tf.zeros_like(images),
            "best_gain": never,
            "last_gain": -never,
            "gaining": zeros,
            "seen": tf.constant(-1.0),
            "halvings": zeros,
            "best_gain_at_check": never,
            "halved_at_check": tf.ones((count,), tf.bool),
        }

    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Look at the objective where the images are, choose each image's step, and take it."""
        gain, gradient = view.gain_and_gradient(images)
        better = gain > state["best_gain"]
        best = tf.where(_each(better), images, state["best"])
        best_gradient = tf.where(_each(better), gradient, state["best_gradient"])
        best_gain = tf.maximum(gain, state["best_gain"])
        gaining, seen = state["gaining"] + tf.cast(gain > state["last_gain"], tf.float32), state["seen"] + 1.0

        due = tf.reduce_any(t == tf.constant(check_points(view.num_steps)))
        kept_step_in_vain = ~state["halved_at_check"] & (best_gain <= state["best_gain_at_check"])
        halve = due & ((gaining < GAINING_SHARE * seen) | kept_step_in_vain)
        halvings = state["halvings"] + tf.cast(halve, tf.float32)

        place = tf.where(_each(halve), best, images)
        uphill = tf.sign(tf.where(_each(halve), best_gradient, gradient))
        moved = view.project(place + 2.0 * view.epsilon * _each(0.5**halvings) * uphill)
        inertia = tf.where(_each(halve), tf.zeros_like(images), place - state["before"])
        weight = tf.where(t == 0, 1.0, NEW_STEP_WEIGHT)
        next_images = place + weight * (moved - place) + (1.0 - weight) * inertia
        return next_images, {
            "before": place,
            "best": best,
            "best_gradient": best_gradient,
            "best_gain": best_gain,
            "last_gain": gain,
            "gaining": tf.where(due, tf.zeros_like(gaining), gaining),
            "seen": tf.where(due, 0.0, seen),
            "halvings": halvings,
            "best_gain_at_check": tf.where(due, best_gain, state["best_gain_at_check"]),
            "halved_at_check": tf.where(due, halve, state["halved_at_check"]),
        }

    def finish(self, images: tf.Tensor, state: State) -> tf.Tensor:
        """Return the best images met."""
        return state["best"]


def _each(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]
