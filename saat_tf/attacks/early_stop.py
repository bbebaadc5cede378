"""An attack in stretches of steps, between which images that have nothing to gain leave the batch."""

from typing import TypeGuard

import numpy as np
import tensorflow as tf

from saat_tf.attacks.any_batch import AnyBatch
from saat_tf.attacks.attack import Attack, GradientAttack, checked_batch
from saat_tf.attacks.encoder import Encoder
from saat_tf.attacks.halving import HalvingStep
from saat_tf.attacks.objectives import ADAPTIVE_MARGIN, alignment
from saat_tf.attacks.rules import SignStep
from saat_tf.random_numbers import seed_of

# Steps between two looks; a look costs one forward pass, a step about three.
STRETCH = 10
# An image rests where a stretch brought mean_k min(h_k t_k, 0.5) at alpha 1 no more than this; docs/performance.md.
LEAST_GAIN = 0.02


def can_stop_early(attack: Attack) -> TypeGuard[GradientAttack]:
    """Return whether `EarlyStop` fits an attack: its goal is one code, and its sign steps are deterministic."""
    return (
        isinstance(attack, GradientAttack)
        and attack.score is alignment
        and isinstance(attack.pgd.rule, SignStep | HalvingStep)
    )


class EarlyStop:
    """Run an attack on one code an image, and spare the steps that bring nothing.

    After each ten steps it looks at u = h t at alpha 1, h being the relaxed code and t the wanted one:

    - Where every bit has u >= 0.5, the image is done and leaves: its hash code is the wanted one, by a margin.
    - Where a stretch under one alpha raised mean_k min(u_k, 0.5) by no more than 0.02, the image rests until alpha
      changes. No alpha is left out, and under the last one no image rests. An attack of one alpha has no rest.

    Images that leave or rest are not computed. The others take the very steps that the attack takes without this, from
    the same random start, up to the rounding of batches of other sizes.

    Args:
        attack: one of which `can_stop_early` is true.
        encoder: the model to attack, whose own codes are to be changed: for a transfer to another model, an image whose
            code is the wanted one here still has something to gain.

    Raises:
        ValueError: the attack is of another kind.

    Example:
        >>> from saat_tf.attacks import PGD, alignment
        >>> from saat_tf.threat_model import ThreatModel
        >>> pgd = PGD(threat_model=ThreatModel(0.5), objective=alignment, rule=SignStep(0.1), num_steps=50)
        >>> attack = GradientAttack(name="up", targeted=False, goal=lambda e, x, y, s: tf.ones((1, 3)), pgd=pgd)
        >>> encoder = lambda images, alpha, training: tf.tanh(alpha * 9.0 * tf.reduce_mean(images - 0.25, (1, 2)))
        >>> images, steps = EarlyStop(attack, encoder)(tf.zeros((1, 4, 4, 3)), tf.ones((1, 2)), tf.constant([0, 0]))
        >>> steps.tolist()
        [10]
    """

    def __init__(self, attack: GradientAttack, encoder: Encoder) -> None:
        if not can_stop_early(attack):
            raise ValueError(
                "Only an attack on one code, by `SignStep` or `HalvingStep`, can stop early. Received: "
                f"{getattr(attack, 'name', attack)!r}. Call the attack itself."
            )
        self.attack = attack
        self.encoder = encoder
        self._begin, self._advance, self._end = AnyBatch(self._first), AnyBatch(self._stretch), AnyBatch(self._last)

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, seed: int | tf.Tensor = 0) -> tuple[tf.Tensor, np.ndarray]:
        """Return adversarial images (B, H, W, 3) and the steps that each took, int64 (B,)."""
        images, labels = checked_batch(self.encoder, images, labels)
        if not len(images):
            return images, np.zeros(0, np.int64)
        pgd = self.attack.pgd
        seed = seed_of(seed)
        alphas = pgd.schedule(pgd.num_steps)
        fixed, moving, gains = self._begin((images, labels), seed)
        gains, taken = gains.numpy(), np.zeros(len(images), np.int64)
        done, resting = np.zeros(len(images), bool), np.zeros(len(images), bool)
        before: set[float] = set()
        for first in range(0, pgd.num_steps, STRETCH):
            end = min(first + STRETCH, pgd.num_steps)
            here = set(alphas[first:end])
            if here != before or before == {alphas[-1]}:
                resting[:] = False
            before = here
            rows = np.flatnonzero(~done & ~resting)
            if not rows.size:
                continue
            part = _gather({"fixed": fixed, "moving": moving}, rows)
            moved, gain, is_done = self._advance(part, seed, tf.constant([first, end]))
            moving = _scatter(moving, rows, moved)
            if len(here) == 1:
                resting[rows] = gain - gains[rows] <= LEAST_GAIN
            gains[rows], done[rows] = gain, is_done
            taken[rows] += end - first
        return self._end({"fixed": fixed, "moving": moving}), taken

    def _first(self, batch: tuple[tf.Tensor, tf.Tensor], seed: tf.Tensor) -> tuple[dict, dict, tf.Tensor]:
        images, goal = self.attack.prepare(self.encoder, *batch, seed)
        place, state = self.attack.pgd.start(images, seed)
        gain, _ = self._look(images, goal)
        return {"images": images, "goal": goal}, {"place": place, "state": state}, gain

    def _stretch(self, rows: dict, seed: tf.Tensor, steps: tf.Tensor) -> tuple[dict, tf.Tensor, tf.Tensor]:
        pgd, fixed, moving = self.attack.pgd, rows["fixed"], rows["moving"]
        relax = self.attack.relax(self.encoder)
        place, state = pgd.advance(
            relax, moving["place"], moving["state"], fixed["images"], fixed["goal"], seed, steps=(steps[0], steps[1])
        )
        return {"place": place, "state": state}, *self._look(pgd.rule.finish(place, state), fixed["goal"])

    def _last(self, rows: dict) -> tf.Tensor:
        fixed, moving = rows["fixed"], rows["moving"]
        adversarial_images = self.attack.pgd.rule.finish(moving["place"], moving["state"])
        return self.attack.nearer(self.encoder, adversarial_images, fixed["images"], fixed["goal"])

    def _look(self, images: tf.Tensor, goal: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean_k min(u_k, 0.5) and whether no u_k is below 0.5, at alpha 1: (B,) each."""
        agreement = self.attack.relax(self.encoder)(images, 1.0) * goal
        gain = tf.reduce_mean(tf.minimum(agreement, ADAPTIVE_MARGIN), axis=-1)
        return gain, tf.reduce_all(agreement >= ADAPTIVE_MARGIN, axis=-1)


def _gather(values: dict, rows: np.ndarray) -> dict:
    """Return those rows of each tensor; a scalar goes for all rows."""
    return tf.nest.map_structure(lambda value: tf.gather(value, rows) if value.shape.rank else value, values)


def _scatter(values: dict, rows: np.ndarray, of_rows: dict) -> dict:
    """Return the tensors with those rows replaced."""

    def replaced(value: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        return tf.tensor_scatter_nd_update(value, rows[:, None], part) if value.shape.rank else part

    return tf.nest.map_structure(replaced, values, of_rows)
