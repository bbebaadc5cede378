"""DI-FGSM: a step rule on randomly resized and padded images."""

import dataclasses

import tensorflow as tf

from saat_tf.attacks.rules import State, StepRule, Transform, View
from saat_tf.random_numbers import uniform


@dataclasses.dataclass(frozen=True)
class DiverseInput(StepRule):
    """DI-FGSM: another rule, whose gradients are those of the images resized and padded at random.

    With probability `probability` a step shrinks the images to a share of their sides drawn from [smallest, 1) and pads
    them with zeros at a random place to their size again, one draw for the batch.

    Args:
        rule: the rule that moves.
        probability: in [0, 1]; 0.5 in the SAAT authors' comparison.
        smallest: in (0, 1); 0.9 there.

    Raises:
        ValueError: an option is out of range.

    References:
        Xie et al., "Improving Transferability of Adversarial Examples with Input Diversity", CVPR 2019.
    """

    rule: StepRule
    probability: float = 0.5
    smallest: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 0 < self.smallest < 1:
            raise ValueError(
                f"`probability` must be in [0, 1] and `smallest` in (0, 1). Received: {self.probability} and "
                f"{self.smallest}."
            )

    def start(self, images: tf.Tensor) -> State:
        """Return the inner rule's state."""
        return self.rule.start(images)

    def step(self, view: View, images: tf.Tensor, state: State, t: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Return the next images by the inner rule."""
        draws = uniform((4,), view.seed)

        def shrinking(side: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
            smallest = tf.floor(self.smallest * side)
            inner = smallest + tf.floor(draws[0] * (side - smallest))
            return _shrinking(side, inner, tf.floor(draw * (side - inner + 1.0)))

        height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
        rows, columns = shrinking(height, draws[1]), shrinking(width, draws[2])

        def vary(x: tf.Tensor) -> tf.Tensor:
            padded = tf.einsum("pr,brsc,qs->bpqc", rows, x, columns)
            return tf.where(draws[3] < self.probability, padded, x)

        def of_varied(x: tf.Tensor, transform: Transform = lambda y: y) -> tuple[tf.Tensor, tf.Tensor]:
            return view.gain_and_gradient(x, lambda y: vary(transform(y)))

        diverse = dataclasses.replace(view, gain_and_gradient=of_varied)
        return self.rule.step(diverse, images, state, t)

    def finish(self, images: tf.Tensor, state: State) -> tf.Tensor:
        """Return the inner rule's result."""
        return self.rule.finish(images, state)


def _shrinking(side: tf.Tensor, inner: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Return the matrix (side, side) that shrinks a row of pixels to `inner` by bilinear resizing, put at `place`.

    As a matrix of one size, whatever is drawn, it needs no answer of the GPU and compiles.
    """
    pixels = tf.range(side)
    source = tf.clip_by_value((pixels - place + 0.5) * side / inner - 0.5, 0.0, side - 1.0)
    weights = tf.nn.relu(1.0 - tf.abs(source[:, None] - pixels))
    return tf.where(((pixels >= place) & (pixels < place + inner))[:, None], weights, 0.0)
