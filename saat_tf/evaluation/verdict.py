"""From the codes of attacked queries to the rows of a card."""

from collections.abc import Sequence

import numpy as np

from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.metrics import TIE_RULE, average_precisions, bootstrap_interval

WORST = "worst"


def attacked_precisions(
    attacked: AttackedQueries, database_codes: np.ndarray, database_labels: np.ndarray, *, top_k: int
) -> np.ndarray:
    """Return AP@k of each attacked query, the worst over the restarts for the retrieval system.

    Args:
        attacked: the codes; their labels say what is relevant, the target's where the attack is targeted.
        database_codes: uint8 (N, K / 8), packed.
        database_labels: (N, C) of 0/1.
        top_k: k.

    Returns:
        float64 (Q,): the lowest AP of the restarts or, of a targeted attack, the highest t-AP.
    """
    restarts = np.stack(
        [
            average_precisions(codes, database_codes, attacked.labels, database_labels, top_k=top_k)
            for codes in attacked.codes
        ]
    )
    return restarts.max(axis=0) if attacked.targeted else restarts.min(axis=0)


def worst_precisions(precisions: Sequence[np.ndarray]) -> np.ndarray:
    """Return the lowest AP of each query over attacks, (Q,) each. Pass the clean ones too: doing nothing is allowed."""
    return np.min(np.stack(precisions), axis=0)


def row(precisions: np.ndarray, *, defense: str, attack: str, top_k: int, targeted: bool = False, **setting) -> dict:
    """Return one row of a card.

    Args:
        precisions: float64 (Q,), AP@k of each query.
        defense: "none" or the name of the defence.
        attack: name of the attack.
        top_k: k.
        targeted: whether the precisions are those of the targets, so that the metric is t-MAP.
        setting: what else tells this result from others: `epsilon_255`, `num_steps`, `restarts`, `seed`.
    """
    return {
        "defense": defense,
        "attack": attack,
        "metric": "t-MAP" if targeted else "MAP",
        "top_k": top_k,
        "tie_rule": TIE_RULE,
        "value": float(precisions.mean()),
        "interval": [float(bound) for bound in bootstrap_interval(precisions)],
        "num_queries": len(precisions),
        **setting,
    }


def merge_rows(old: Sequence[dict], new: Sequence[dict]) -> list[dict]:
    """Return the old rows, those of the same setting replaced by new ones, and the new rows after them."""
    outcomes = ("value", "interval")

    def setting(result: dict) -> tuple:
        return tuple(sorted((name, value) for name, value in result.items() if name not in outcomes))

    replaced = {setting(result) for result in new}
    return [result for result in old if setting(result) not in replaced] + list(new)
