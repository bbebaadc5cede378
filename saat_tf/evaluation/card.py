"""The result card of a run: settings, versions and scores, as numbers."""

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import saat_tf
from saat_tf.certify.average_precision import CertifiedScores
from saat_tf.certify.certificate import Certificate
from saat_tf.devices import device_names
from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.evaluate import RetrievalReport
from saat_tf.evaluation.scores import AttackScore, Score, worst_case
from saat_tf.metrics import TIE_RULE

# Titles of the models that a card has rows of, by the name there.
DEFENSES = {
    "none": "undefended",
    "saat": "SAAT",
    "cgat": "CgAT",
    "atrdh": "ATRDH",
    "ibp": "bounds (IBP)",
    "comdefend": "ComDefend",
}
# Name of the worst case over several attacks in a row.
WORST = "worst"
# How the name of a certificate begins in a row.
CERTIFIED = "certified by "
PACKAGES = ("tensorflow", "keras", "numpy")


def results(report: RetrievalReport, *, defense: str, top_k: int) -> list[dict]:
    """Return the card's rows for one model.

    Args:
        report: what `evaluate` found.
        defense: "none" or the name of the defense.
        top_k: k of MAP@k.

    Returns:
        One row for each attack: "none", "mainstay", and "ideal" (the bound, not an image); `value` is in [0, 1].
    """
    values = {"none": report.clean_map, "mainstay": report.attacked_map, "ideal": report.ideal_attack_map}
    return [
        {
            "defense": defense,
            "attack": attack,
            "metric": "MAP",
            "top_k": top_k,
            "tie_rule": TIE_RULE,
            "value": value,
        }
        for attack, value in values.items()
    ]


def result_row(
    score: Score, *, defense: str, attack: str, top_k: int, targeted: bool = False, **setting: float | str
) -> dict:
    """Return one row of a card with its interval.

    Args:
        score: AP@k of each query.
        defense: "none" or the name of the defense.
        attack: name of the attack.
        top_k: k.
        targeted: whether the score is by the targets' labels, so that the metric is t-MAP.
        setting: other settings that identify the result: `epsilon_255`, `num_steps`, `restarts`, `seed`, `early_stop`.
    """
    return {
        "defense": defense,
        "attack": attack,
        "metric": "t-MAP" if targeted else "MAP",
        "top_k": top_k,
        "tie_rule": TIE_RULE,
        "value": score.map,
        "interval": list(score.interval),
        "num_queries": len(score.codes),
        **setting,
    }


def attack_rows(
    clean: Score, mix: Sequence[AttackScore], *, defense: str, top_k: int, **setting: float | str
) -> list[dict]:
    """Return the rows of attacks of one radius, and of their worst case where more than one pushes away.

    Args:
        clean: of the queries as they are.
        mix: the attacks.
        defense: "none" or the name of the defense.
        top_k: k.
        setting: as in `result_row`.
    """
    about: dict[str, Any] = {
        "restarts": len(mix[0].attacked.seeds),
        **setting,
        "epsilon_255": mix[0].attacked.epsilon_255,
    }
    rows = [
        result_row(
            one.score, defense=defense, attack=one.attacked.attack, top_k=top_k, targeted=one.attacked.targeted,
            num_steps=one.attacked.num_steps, **_early_stop_of(one.attacked), **about,
        )
        for one in mix
    ]  # fmt: skip
    away = [one for one in mix if not one.attacked.targeted]
    if len(away) > 1:
        worst = worst_case([clean, *(one.score for one in away)])
        most = max(one.attacked.num_steps for one in away)
        if any(one.attacked.mean_steps is not None for one in away):
            about["early_stop"] = True
        rows.append(result_row(worst, defense=defense, attack=WORST, top_k=top_k, num_steps=most, **about))
    return rows


def _early_stop_of(attacked: AttackedQueries) -> dict[str, float | bool]:
    """Return what a row says of early stopping: nothing where all steps were taken."""
    return {} if attacked.mean_steps is None else {"early_stop": True, "mean_steps": round(attacked.mean_steps, 1)}


def certified_row(
    certificate: Certificate, scores: CertifiedScores, *, defense: str, top_k: int, **setting: float
) -> dict:
    """Return the row of a certificate: a bound of MAP, not what was measured under an attack.

    Args:
        certificate: the bits.
        scores: the bound of each query.
        defense: "none" or the name of the defense.
        top_k: k.
        setting: what else there is to say: `clean_map`, `attacked_map` by the same rule, and `sigma`, `draws` and
            `selection_draws` of smoothing.
    """
    certified = certificate.certified
    return {
        "defense": defense,
        "attack": f"{CERTIFIED}{certificate.method}",
        "metric": "certified MAP",
        "top_k": top_k,
        "tie_rule": "pessimistic",
        "denominator": "relevant",
        "value": scores.map,
        "epsilon_255": round(255 * certificate.epsilon, 6),
        "num_queries": len(certified),
        "certified_bits": float(certified.sum(axis=1).mean()),
        "abstaining": float(1 - certified.mean()),
        "exact": float(scores.exact.mean()),
        "confidence": certificate.confidence,
        **setting,
    }


def merge_rows(old: Sequence[dict], new: Sequence[dict]) -> list[dict]:
    """Return the old rows, those of the same setting replaced by new ones, and the new rows after them."""
    outcomes = {"value", "interval", "mean_steps", "certified_bits", "abstaining", "exact", "clean_map", "attacked_map"}

    def setting(result: dict) -> tuple:
        return tuple(sorted((name, value) for name, value in result.items() if name not in outcomes))

    replaced = {setting(result) for result in new}
    return [result for result in old if setting(result) not in replaced] + list(new)


def defenses_of(card: dict) -> list[str]:
    """Return the names of the models that a card has rows of, in order."""
    return list(dict.fromkeys(row["defense"] for row in card["results"]))


def result_value(card: dict, *, defense: str, attack: str) -> float:
    """Return the value of one row of a card.

    Raises:
        KeyError: the card has no such row.
    """
    for row in card["results"]:
        if row["defense"] == defense and row["attack"] == attack:
            return row["value"]
    raise KeyError(f"The card has no result for defense={defense!r} under attack={attack!r}.")


def versions() -> dict[str, str | None]:
    """Return the versions of Python, of this code and of the packages that decide a result."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "saat_tf": saat_tf.__version__,
        "commit": commit(Path(saat_tf.__file__).parent),
        "python": platform.python_version(),
        **packages,
    }


def commit(folder: Path) -> str | None:
    """Return the git commit of the code in a folder.

    Args:
        folder: a package: its `__init__.py` must be tracked, so that a copy inside another repository does not count.

    Returns:
        The 40 digits, with "-dirty" behind them where tracked files differ from that commit; None where it cannot be
        known: an installed package, a copy without its history, a machine without git.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, str | int | list[str]]:
    """Return what ran the work: system, processor architecture, number of cores, and the GPUs, or the CPU."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 0,
        "devices": device_names(),
    }


def peak_rss_mb() -> float:
    """Return the largest resident memory of this process so far, in MB of 2^20 bytes."""
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))):
        return int(found[1]) / 2**10
    # On Linux this begins with the peak of the process that started this one, however small this one is.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
