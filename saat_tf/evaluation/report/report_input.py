"""Input of a report."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from saat_tf.data import RetrievalData
from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.evaluate import EncodedData
from saat_tf.evaluation.sanity_checks.checks import Finding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """Adversarial images to show.

    Args:
        attack: index of the attack, in `DefenseResult.attacked`, whose first restart made them.
        images: float32 (E, S, S, 3) in [0, 1], those of the first E queries.
    """

    attack: int
    images: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class DefenseResult:
    """Scores and codes of one model.

    Args:
        title: as readers shall read it, such as "undefended".
        encoded: codes of the data under the model.
        attacked: what attacks made of the queries.
        examples: adversarial images to show.
        findings: what the checks said.
    """

    title: str
    encoded: EncodedData
    attacked: Sequence[AttackedQueries] = ()
    examples: Examples | None = None
    findings: Sequence[Finding] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """Scores on one model of images made against another.

    Args:
        surrogates: S names of the models that images were made against.
        victims: V names of the models that they were searched with.
        maps: float (S, V), MAP.
    """

    surrogates: Sequence[str]
    victims: Sequence[str]
    maps: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportInput:
    """All that a report shows; a part without data is left out.

    Args:
        card: the result card; `epsilon_255` is the radius up to which attacks count for the worst case.
        data: names, labels and, for the examples, images.
        defenses: the models, in the order to show them.
        config: how they were made.
        top_k: k of MAP@k; None for the whole database.
        transfer: surrogate against victim.
    """

    card: Mapping
    data: RetrievalData
    defenses: Sequence[DefenseResult]
    config: Mapping
    top_k: int | None = None
    transfer: Transfer | None = None
