"""The report of a run: report.html from everything that evaluations have left in its folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saat_tf.attacks import build_attack
from saat_tf.data import RetrievalData
from saat_tf.evaluation import (
    DefenseResult,
    Examples,
    Finding,
    ReportInput,
    Transfer,
    check_scores,
    run_model_checks,
    write_report,
)
from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.robustness import CHECKED_ATTACK, CHECKED_STEPS
from saat_tf.evaluation.scores import score_defense
from saat_tf.metrics import chance_map
from saat_tf.threat_model import from_255
from trainers.console.output import DEFENSES
from trainers.runs.models import Evaluated

TRANSFERRED_FROM = ", transferred from "


def stored_attacks(run_dir: Path, defense: str, num_queries: int) -> list[AttackedQueries]:
    """Return every stored attack on one model over so many queries, by name, radius and number of steps."""
    files = sorted((run_dir / "evaluation" / defense).glob("*.npz"))
    stored = [attacked for attacked in map(AttackedQueries.load, files) if len(attacked.labels) == num_queries]
    return sorted(stored, key=lambda attacked: (attacked.attack, attacked.epsilon_255, attacked.num_steps))


def report_run(
    run_dir: Path, card: dict, models: Sequence[Evaluated], data: RetrievalData, top_k: int
) -> list[Finding]:
    """Check the models, write report.html and its figures into the run folder, and return what the checks said."""
    results, findings, maps = [], [], {}
    chance = chance_map(data.test.labels, data.database.labels)
    for model in models:
        attacked = stored_attacks(run_dir, model.defense, len(data.test))
        attack = build_attack(CHECKED_ATTACK, from_255(card["epsilon_255"]), model.known, num_steps=CHECKED_STEPS)
        scores = score_defense(model.encoded, attacked, data, epsilon_255=card["epsilon_255"], top_k=top_k)
        found = run_model_checks(model.encoder, data, model.encoded, attack, data.test.labels)
        found += check_scores(scores, chance, defended=model.defense != "none")
        findings += found
        for one in scores.non_targeted:
            setting = (one.attacked.epsilon_255, one.attacked.num_steps)
            maps[one.attacked.attack, setting, model.defense] = one.score.map
        shown = next(
            (i for i, one in enumerate(attacked) if not one.targeted and TRANSFERRED_FROM not in one.attack), None
        )
        results.append(
            DefenseResult(
                title=DEFENSES[model.defense],
                encoded=model.encoded,
                attacked=attacked,
                examples=None if shown is None else Examples(attack=shown, images=attacked[shown].images),
                findings=found,
            )
        )
    write_report(
        ReportInput(
            card=card,
            data=data,
            defenses=results,
            config=card["config"],
            top_k=top_k,
            transfer=_transfer([model.defense for model in models], maps),
        ),
        run_dir,
    )
    return findings


def _transfer(defenses: Sequence[str], maps: dict[tuple[str, tuple[float, int], str], float]) -> Transfer | None:
    """Return the MAPs of one attack, of one radius and number of steps, transferred from each model and scored on each.

    None where not all of them are known.
    """
    for name, setting, _ in maps:
        rows = [
            [
                maps.get((name if source == victim else f"{name}{TRANSFERRED_FROM}{source}", setting, victim))
                for victim in defenses
            ]
            for source in defenses
        ]
        if len(defenses) > 1 and all(value is not None for row in rows for value in row):
            titles = [DEFENSES[defense] for defense in defenses]
            return Transfer(surrogates=titles, victims=titles, maps=np.array(rows))
    return None
