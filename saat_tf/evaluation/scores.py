"""Scores recomputed from stored codes: each attack's worst case per query, and the worst case over all of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from saat_tf.codes import pack_codes
from saat_tf.data import RetrievalData
from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.evaluate import EncodedData, filled_bank
from saat_tf.layers import DMFL
from saat_tf.metrics import average_precisions, bootstrap_interval


@dataclasses.dataclass(frozen=True)
class Score:
    """AP@k of each query, and what follows from it.

    Args:
        codes: uint8 (Q, K / 8), packed, that were scored.
        average_precisions: float64 (Q,) in [0, 1].
    """

    codes: np.ndarray
    average_precisions: np.ndarray

    @property
    def map(self) -> float:
        """The mean over the queries."""
        return float(self.average_precisions.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The bootstrap 95% interval of the mean."""
        return bootstrap_interval(self.average_precisions)


@dataclasses.dataclass(frozen=True)
class AttackScore:
    """Scores of one stored attack.

    Args:
        attacked: the attack.
        score: of the worst restart of each query, by t-MAP against the targets' labels where the attack is targeted.
        before: of the same queries without the attack, against the same labels.
    """

    attacked: AttackedQueries
    score: Score
    before: Score


@dataclasses.dataclass(frozen=True)
class DefenseScores:
    """Scores of one model under all stored attacks.

    Args:
        clean: of the queries as they are.
        ideal: of the codes opposite to the queries' mainstay codes: the bound that the attack aims for.
        worst: for each query the worst of all non-targeted attacks within the radius, and of none: an attacker may do
            nothing.
        attacks: each attack.
        epsilon_255: that radius.
    """

    clean: Score
    ideal: Score
    worst: Score
    attacks: tuple[AttackScore, ...]
    epsilon_255: float

    @property
    def non_targeted(self) -> tuple[AttackScore, ...]:
        """The attacks that drive queries away from their own labels."""
        return tuple(attack for attack in self.attacks if not attack.attacked.targeted)

    @property
    def targeted(self) -> tuple[AttackScore, ...]:
        """The attacks that drive queries towards a target's labels."""
        return tuple(attack for attack in self.attacks if attack.attacked.targeted)


def score_defense(
    encoded: EncodedData,
    attacked: Sequence[AttackedQueries],
    data: RetrievalData,
    *,
    epsilon_255: float,
    top_k: int | None = None,
) -> DefenseScores:
    """Score stored attacks on one model.

    A query that is attacked several times counts as lost when one of the attacks wins: for each query the worst restart
    is kept, and then the worst attack. The mean of such a worst case is below every single MAP.

    Args:
        encoded: codes of training set, database and queries under the model.
        attacked: what the attacks made of the queries, in the order of `data.test`.
        data: whose labels are read; no image is.
        epsilon_255: radius up to which attacks count for the worst case.
        top_k: k of MAP@k; the whole database by default.

    Returns:
        `DefenseScores`.

    Raises:
        ValueError: codes and labels of different numbers.
    """

    def score(codes: np.ndarray, labels: np.ndarray) -> Score:
        return Score(codes, average_precisions(codes, encoded.database, labels, data.database.labels, top_k=top_k))

    labels = data.test.labels
    clean = score(encoded.test, labels)
    attacks = []
    for one in attacked:
        goal_labels = one.labels if one.targeted else labels
        restarts = [score(codes, goal_labels) for codes in one.codes]
        before = score(encoded.test, goal_labels) if one.targeted else clean
        attacks.append(AttackScore(one, worst_case(restarts, targeted=one.targeted), before))
    within = [x.score for x in attacks if not x.attacked.targeted and x.attacked.epsilon_255 <= epsilon_255]
    return DefenseScores(
        clean=clean,
        ideal=score(pack_codes(-mainstay_of(encoded, data, labels)).numpy(), labels),
        worst=worst_case([clean, *within]) if within else clean,
        attacks=tuple(attacks),
        epsilon_255=epsilon_255,
    )


def worst_case(scores: Sequence[Score], *, targeted: bool = False) -> Score:
    """Keep for each query the score that is best for the attacker: the smallest AP or, where `targeted`, the largest.

    Example:
        >>> codes = np.uint8([[1], [2]])
        >>> one, other = Score(codes, np.array([0.1, 0.9])), Score(codes + 2, np.array([0.5, 0.3]))
        >>> worst_case([one, other]).average_precisions.tolist(), worst_case([one, other]).codes.tolist()
        ([0.1, 0.3], [[1], [4]])
    """
    values = np.stack([score.average_precisions for score in scores])
    chosen = (values.argmax if targeted else values.argmin)(axis=0)
    codes = np.stack([score.codes for score in scores])
    queries = np.arange(len(chosen))
    return Score(codes[chosen, queries], values[chosen, queries])


def mainstay_of(encoded: EncodedData, data: RetrievalData, labels: np.ndarray) -> np.ndarray:
    """Return the mainstay codes of label rows (Q, C) against the training codes: float32 (Q, K) of -1/+1."""
    return DMFL(filled_bank(encoded.train, data.train.labels))(tf.convert_to_tensor(labels, tf.float32)).numpy()


def series(attacks: Sequence[AttackScore], of: str) -> dict[str, list[tuple[float, AttackScore]]]:
    """Collect the attacks that were run with several radii, or several numbers of steps, and else alike.

    Args:
        attacks: of one model.
        of: "epsilon" or "steps": what grows along a series.

    Returns:
        Name of the series -> (epsilon in units of 1/255 or steps, attack), in growing order, at least two each.

    Raises:
        ValueError: an unknown `of`.
    """
    if of not in ("epsilon", "steps"):
        raise ValueError(f"`of` must be one of epsilon, steps. Received: {of!r}.")
    groups: dict[str, dict[float, AttackScore]] = {}
    for attack in attacks:
        one = attack.attacked
        if of == "epsilon":
            name, place = f"{one.attack}, {one.num_steps} steps", one.epsilon_255
        else:
            name, place = f"{one.attack}, {one.epsilon_255:g}/255", one.num_steps
        groups.setdefault(name, {})[place] = attack
    return {name: sorted(group.items()) for name, group in groups.items() if len(group) > 1}
