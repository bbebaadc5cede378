"""Square attack: a black box that sees codes only, and no gradient."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from saat_tf.attacks.attack import GoalOf, checked_batch, code_goal
from saat_tf.attacks.encoder import Encoder, check_code_length, relaxed_codes
from saat_tf.codes import sign
from saat_tf.random_numbers import fold_in, seed_of, signs, uniform
from saat_tf.threat_model import ThreatModel

# The share of pixels that a square covers is halved after these shares of the queries.
HALVED_AFTER = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquareAttack:
    """Random search by squares of +-epsilon, on the Hamming distance between the hash code and the wanted one.

    The attacker sends an image and sees its hash code. It begins with vertical stripes of +-epsilon; each further query
    sets one square of each image, channel by channel, to +-epsilon, and keeps it if the code is no farther from the
    wanted code. Moves on a plateau are kept, since the distance is an integer.

    Args:
        name: for reports.
        targeted: whether the labels that it is called with are those of a target.
        goal: (encoder, images, labels, seed) -> wanted codes float (B, K) of -1/+1.
        threat_model: the ball.
        num_queries: queries sent for each image, at least 2: the first ones are the image and its stripes.
        first_share: share of the pixels that the first squares cover, in (0, 1]; 0.8 as in the authors' robust setting.

    Raises:
        ValueError: an option is out of range.

    References:
        Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV
        2020. Differs: plateau moves are kept; the score is a distance of hash codes.
    """

    name: str
    targeted: bool
    goal: GoalOf
    threat_model: ThreatModel
    num_queries: int = 1000
    first_share: float = 0.8

    def __post_init__(self) -> None:
        if self.num_queries < 2 or not 0 < self.first_share <= 1:
            raise ValueError(
                f"`num_queries` must be at least 2 and `first_share` in (0, 1]. Received: {self.num_queries} and "
                f"{self.first_share}."
            )

    def __call__(self, encoder: Encoder, images: tf.Tensor, labels: tf.Tensor, seed: int | tf.Tensor = 0) -> tf.Tensor:
        """Return adversarial images (B, H, W, 3)."""
        images, labels = checked_batch(encoder, images, labels)
        if images.shape[0] == 0:
            return images
        seed = seed_of(seed)
        wanted = self.goal(encoder, images, labels, seed)

        def agreement(x: tf.Tensor) -> tf.Tensor:
            codes = sign(relaxed_codes(encoder, x))
            check_code_length(codes, wanted)
            return tf.reduce_sum(codes * wanted, axis=1)

        def keep_better(old: tf.Tensor, old_score: tf.Tensor, new: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            new = self.threat_model.project(new, images)
            new_score = agreement(new)
            kept = new_score >= old_score
            return tf.where(kept[:, None, None, None], new, old), tf.maximum(new_score, old_score)

        def query(t: tf.Tensor, best: tf.Tensor, score: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            step_seed = fold_in(seed, t)
            inside = self._squares(images, t, step_seed)
            signs = _random_signs(tf.stack([tf.shape(images)[0], 1, 1, 3]), step_seed)
            return t + 1, *keep_better(best, score, tf.where(inside, images + self.threat_model.epsilon * signs, best))

        shape = tf.shape(images)
        stripes = _random_signs(tf.stack([shape[0], 1, shape[2], 3]), seed)
        best, score = keep_better(images, agreement(images), images + self.threat_model.epsilon * stripes)
        _, best, _ = tf.while_loop(
            lambda t, *_: t < self.num_queries,
            query,
            (tf.constant(2), best, score),
            shape_invariants=(tf.TensorShape([]), images.shape, score.shape),
            maximum_iterations=self.num_queries - 2,
        )
        return best

    def _squares(self, images: tf.Tensor, t: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draw a square in each image: bool (B, H, W, 1)."""
        shape = tf.shape(images)
        done = tf.cast(t, tf.float32) / self.num_queries
        halvings = tf.reduce_sum(tf.cast(done > tf.constant(HALVED_AFTER), tf.float32))
        share = self.first_share * 0.5**halvings
        sides = tf.cast(shape[1:3], tf.float32)
        # The root of a square number is exact, so a square image has the side itself.
        mean_side = tf.sqrt(tf.reduce_prod(sides))
        side = tf.clip_by_value(tf.round(tf.sqrt(share) * mean_side), 1.0, tf.reduce_min(sides))
        places = uniform((shape[0], 2, 1), fold_in(seed, 1))
        top, left = tf.unstack(tf.floor(places * (sides[:, None] - side + 1.0)), axis=1)

        def inside(length: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
            pixels = tf.range(length)[None]  # in floats: on a GPU TensorFlow compares int32 on the host
            return (pixels >= first) & (pixels < first + side)

        rows, columns = inside(sides[0], top), inside(sides[1], left)  # (B, H), (B, W)
        return (rows[:, :, None] & columns[:, None, :])[..., None]


def _random_signs(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return signs(shape, fold_in(seed, 2))


def square_attack(
    epsilon: float,
    codes_of: Callable[[tf.Tensor], tf.Tensor],
    *,
    targeted: bool = False,
    num_queries: int = 1000,
) -> SquareAttack:
    """Compose a Square attack on one code for each label set, such as the mainstay code.

    Args:
        epsilon: radius of the ball in pixel units of [0, 1].
        codes_of: labels (B, C) -> codes float32 (B, K) of -1/+1, such as a `DMFL` layer.
        targeted: drive codes towards those of the labels given, or away from them.
        num_queries: queries sent for each image.

    Example:
        >>> square_attack(8 / 255, lambda labels: tf.ones((len(labels), 8)), num_queries=10).name
        'square'
    """
    return SquareAttack(
        name="square",
        targeted=targeted,
        goal=code_goal(lambda labels, seed: codes_of(labels), targeted),
        threat_model=ThreatModel(epsilon),
        num_queries=num_queries,
    )
