"""One call for a verdict: how well an encoder searches, and how well under attack."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saat_tf.attacks import Attack, attack_names, build_attack, draw_target_labels
from saat_tf.data import RetrievalData, Split, array_split
from saat_tf.data.label_rules import label_faults
from saat_tf.data.split_rules import ERROR
from saat_tf.evaluation.attacked import AttackedQueries, attack_queries
from saat_tf.evaluation.card import attack_rows, result_row, versions
from saat_tf.evaluation.evaluate import EncodedData, encode_data, knowledge
from saat_tf.evaluation.report.report_input import DefenseResult, Examples, ReportInput
from saat_tf.evaluation.report.write import report_page
from saat_tf.evaluation.sanity_checks.checks import Finding
from saat_tf.evaluation.sanity_checks.model_checks import check_scores, run_model_checks
from saat_tf.evaluation.scores import DefenseScores, Score, score_defense
from saat_tf.files import write_bytes
from saat_tf.images import checked_images
from saat_tf.labels import check_labels
from saat_tf.metrics import chance_map
from saat_tf.models.encoders import CodeEncoder, checked_encoder
from saat_tf.progress import Track, silent

CHECKED_ATTACK, CHECKED_STEPS = "mainstay", 100
SHOWN_QUERIES = 6
Pair = tuple[np.ndarray, np.ndarray] | Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessReport:
    """Verdict of `evaluate_robustness`; printed, it is a table.

    Args:
        scores: AP of each query: clean, under each attack, and in the worst case.
        chance: MAP of a random order.
        findings: what the checks measured, raised or not.
        data: whose labels were searched by.
        encoded: the codes.
        seed: of the attacks.
    """

    scores: DefenseScores
    chance: float
    findings: tuple[Finding, ...]
    data: RetrievalData
    encoded: EncodedData
    seed: int

    @property
    def clean(self) -> Score:
        """Score of the queries as they are."""
        return self.scores.clean

    @property
    def attacks(self) -> dict[str, Score]:
        """Score under each attack by its name; t-MAP of a targeted one."""
        return {one.attacked.attack: one.score for one in self.scores.attacks}

    @property
    def worst_case(self) -> Score:
        """Score of each query at its lowest over all attacks that are not targeted, and over none."""
        return self.scores.worst

    @property
    def raised(self) -> tuple[Finding, ...]:
        """The checks that warn: for what they name, the figures are not to be believed as they are."""
        return tuple(finding for finding in self.findings if finding.raised)

    def __str__(self) -> str:
        """Return the table and the checks that warn."""
        code_length = 8 * self.encoded.database.shape[1]
        attacks = [(f"{name}{self._metric(name)}", score) for name, score in self.attacks.items()]
        rows = [("clean", self.clean), *attacks, ("worst case", self.worst_case)]
        width = max(len(name) for name, _ in rows)
        lines = [
            f"MAP of {len(self.data.test)} queries on {len(self.data.database)} items, codes of {code_length} bits; "
            f"every pixel may change by up to {self.scores.epsilon_255:g}/255.",
            "",
            f"{'':<{width}}    MAP  95% interval",
        ]
        for name, score in rows:
            low, high = score.interval
            lines.append(f"{name:<{width}}  {score.map:.3f}  {low:.3f} to {high:.3f}")
        lines += [
            f"{'chance':<{width}}  {self.chance:.3f}",
            "",
            "Worst case: each query at its lowest over the attacks above, and over none. Chance: a random order.",
            f"Checks: {len(self.findings) - len(self.raised)} passed, {len(self.raised)} warn.",
        ]
        return "\n".join([*lines, *(f"  {x.check}: {x.message} {x.remedy}" for x in self.raised)])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as numbers and strings: rows as those of a run's card, the checks, the versions."""
        top_k = len(self.data.database)
        clean = result_row(self.clean, defense="none", attack="none", top_k=top_k)
        rows = [clean, *attack_rows(self.clean, self.scores.attacks, defense="none", top_k=top_k, seed=self.seed)]
        return {
            "code_length": 8 * self.encoded.database.shape[1],
            "epsilon_255": self.scores.epsilon_255,
            "num_queries": len(self.data.test),
            "num_database": len(self.data.database),
            "chance_map": self.chance,
            "worst_case_map": self.worst_case.map,
            "results": [{name: value for name, value in row.items() if name != "defense"} for row in rows],
            "checks": [dataclasses.asdict(finding) for finding in self.findings],
            "versions": versions(),
        }

    def save(self, path: str | Path) -> Path:
        """Write one HTML page with tables, curves and example queries, and return its path.

        It needs no other file, runs no script and requests nothing.
        """
        attacked = [one.attacked for one in self.scores.attacks]
        shown = next((i for i, one in enumerate(attacked) if not one.targeted), None)
        report = ReportInput(
            card={"epsilon_255": self.scores.epsilon_255, "versions": versions()},
            data=self.data,
            defenses=[
                DefenseResult(
                    title="encoder",
                    encoded=self.encoded,
                    attacked=attacked,
                    examples=None if shown is None else Examples(attack=shown, images=attacked[shown].images),
                    findings=self.findings,
                )
            ],
            config={},
        )
        with tempfile.TemporaryDirectory() as figures:
            page = report_page(report, Path(figures))
        write_bytes(Path(path), page)
        return Path(path)

    def _metric(self, name: str) -> str:
        return " (t-MAP)" if any(one.attacked.attack == name for one in self.scores.targeted) else ""


def evaluate_robustness(
    encoder: CodeEncoder,
    *,
    queries: Pair,
    database: Pair,
    train: Pair | None = None,
    attacks: str | Sequence[str | Attack] = "standard",
    epsilon: float = 8 / 255,
    num_steps: int | None = None,
    restarts: int = 1,
    seed: int = 0,
    batch_size: int = 128,
    class_names: Sequence[str] | None = None,
    track: Track = silent,
) -> RobustnessReport:
    """Search with queries as they are and under attack, and check whether the attacks are to be believed.

    For each query the worst restart of each attack counts, and in the worst case the worst attack. An item is relevant
    to a query that it shares a label with; MAP is over the whole database.

    Args:
        encoder: a `HashingModel`, or what `saat_tf.as_encoder` made; nothing of it changes.
        queries: images float32 (Q, H, W, 3) in [0, 1] and labels (Q, C) of 0/1; or a `saat_tf.data.Split`.
        database: the same of the items that are searched.
        train: the same of what the encoder was trained on, of which the attacker knows the codes; by default the
            database.
        attacks: "standard", an ensemble of four; or names in `saat_tf.attacks.ATTACKS`, or attacks.
        epsilon: radius of the ball in pixel units of [0, 1].
        num_steps: steps of each attack that is named; by default the published ones, most often 100.
        restarts: how often each attack starts anew.
        seed: of the first start, and of drawn targets.
        batch_size: queries at a time; random starts depend on it.
        class_names: what the columns of the labels mean.
        track: shows progress.

    Returns:
        `RobustnessReport`: `print(report)`, `report.to_dict()`, `report.save("report.html")`.

    Raises:
        ValueError: what is no encoder, images or labels that do not fit it or each other, labels by which nothing can
            be measured, an unknown attack, or one that must be trained first.

    Example:
        >>> import tensorflow as tf
        >>> from saat_tf import as_encoder
        >>> images, labels = np.random.default_rng(0).random((6, 12, 12, 3), np.float32), np.eye(3)[[0, 1, 2] * 2]
        >>> encoder = as_encoder(lambda x: tf.reshape(x, (-1, 432))[:, :8] - 0.5, image_size=12)
        >>> pairs = {"queries": (images, labels), "database": (images, labels)}
        >>> report = evaluate_robustness(encoder, **pairs, attacks="mainstay", num_steps=2)
        >>> sorted(report.attacks), report.worst_case.map <= report.clean.map
        (['mainstay'], True)
    """
    checked_encoder(encoder)
    if restarts < 1:
        raise ValueError(f"`restarts` must be at least 1. Received: {restarts}.")
    data = _data(encoder, queries, database, train, class_names)
    named = [attacks] if isinstance(attacks, str) else list(attacks)
    names = attack_names([name for name in named if isinstance(name, str)])
    encoded = encode_data(encoder, data, batch_size, track)
    known = knowledge(encoded, data)
    chosen = [build_attack(name, epsilon, known, num_steps=num_steps) for name in names]
    chosen += [attack for attack in named if not isinstance(attack, str)]
    if not chosen:
        raise ValueError('`attacks` must name at least one. Received: none. Take "standard".')
    attacked = [_attacked(encoder, data, attack, range(seed, seed + restarts), batch_size, track) for attack in chosen]
    radius = max(one.epsilon_255 for one in attacked)
    scores = score_defense(encoded, attacked, data, epsilon_255=radius)
    chance = chance_map(data.test.labels, data.database.labels)
    checked = build_attack(CHECKED_ATTACK, epsilon, known, num_steps=num_steps or CHECKED_STEPS)
    findings = run_model_checks(encoder, data, encoded, checked, data.test.labels, seed=seed)
    findings += check_scores(scores, chance, defended=True)
    return RobustnessReport(
        scores=scores, chance=chance, findings=tuple(findings), data=data, encoded=encoded, seed=seed
    )


def attack_labels(attack: Attack, data: RetrievalData, *, seed: int) -> np.ndarray:
    """Return the labels that an attack on the queries is called with: the queries' own, or drawn targets'."""
    labels = data.test.labels
    return draw_target_labels(labels, data.database.labels, seed=seed) if attack.targeted else labels


def _attacked(
    encoder: CodeEncoder, data: RetrievalData, attack: Attack, seeds: Sequence[int], batch_size: int, track: Track
) -> AttackedQueries:
    loop = getattr(attack, "pgd", None)
    num_steps = loop.num_steps if loop is not None else getattr(attack, "num_queries", 1)
    return attack_queries(
        encoder,
        data.test,
        attack,
        attack_labels(attack, data, seed=seeds[0]),
        num_steps=num_steps,
        seeds=seeds,
        batch_size=batch_size,
        keep_images=SHOWN_QUERIES,
        track=track,
    )


def _data(
    encoder: CodeEncoder, queries: Pair, database: Pair, train: Pair | None, class_names: Sequence[str] | None
) -> RetrievalData:
    """Return the checked splits."""
    test, items = _split("queries", queries, encoder), _split("database", database, encoder)
    known = items if train is None else _split("train", train, encoder)
    widths = {name: split.labels.shape[1] for name, split in (("queries", test), ("database", items), ("train", known))}
    if len({*widths.values()}) > 1 or (class_names is not None and len(class_names) != widths["queries"]):
        received = ", ".join(f"{width} in `{name}`" for name, width in widths.items())
        names = "" if class_names is None else f", {len(class_names)} class names"
        raise ValueError(
            f"Labels must have one number of classes. Received: {received}{names}. Give one column for each class."
        )
    faults = label_faults(
        {"train": known.labels, "database": items.labels, "test": test.labels},
        {"train": "train", "database": "database", "test": "queries"},
        lambda split, row: f"{split}: item {row}",
    )
    errors = [str(fault) for fault in faults if fault.level == ERROR]
    if errors:
        raise ValueError(" ".join(errors))
    classes = class_names or [str(column) for column in range(widths["queries"])]
    return RetrievalData("images", classes, known, items, test)


def _split(name: str, pair: Pair, encoder: CodeEncoder) -> Split:
    if isinstance(pair, Split):
        return pair
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(
            f"`{name}` must be (images, labels) or a `saat_tf.data.Split`. Received: a {type(pair).__name__}."
        )
    images, labels = checked_images(pair[0], encoder.image_size), check_labels(pair[1], f"{name} labels")
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"`{name}` must have one row of labels for each image, and at least one. Received: {len(images)} images "
            f"and {len(labels)} rows."
        )
    return array_split(images, labels.astype(np.float32))
