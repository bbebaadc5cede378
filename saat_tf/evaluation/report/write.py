"""The report of a run: one HTML file that needs nothing else, and its figures as PNG and SVG beside it."""

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from saat_tf.evaluation.card import DEFENSES
from saat_tf.evaluation.report.figures import Picture
from saat_tf.evaluation.report.report_input import ReportInput
from saat_tf.evaluation.report.report_pictures import (
    curve_pictures,
    mainstay_picture,
    map_picture,
    query_picture,
    series_pictures,
    targeted_pictures,
    transfer_picture,
)
from saat_tf.evaluation.report.sandwich import certified_rows, sandwich_pictures
from saat_tf.evaluation.scores import DefenseScores, score_defense
from saat_tf.files import write_bytes
from saat_tf.metrics import TIE_RULE, chance_map
from saat_tf.pages import data_uri, page_templates

# Of the card, what has a table of its own.
SHOWN_ELSEWHERE = ("results", "config", "robust_radius")


def write_report(report: ReportInput, folder: Path) -> Path:
    """Write report.html and figures/ into `folder`, each file whole; return the path of report.html.

    Args:
        report: what to show.
        folder: exists; files of the same names are replaced.

    Raises:
        ValueError: no model, two of one title, or codes and labels of different numbers.
    """
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    page, path = report_page(report, figures), folder / "report.html"
    write_bytes(path, page)
    return path


def report_page(report: ReportInput, figures: Path) -> bytes:
    """Return the page, UTF-8, and write its figures into the folder `figures`.

    The page contains its images and its style, runs no script and requests nothing. All scores are computed from the
    stored codes, not read from the card.

    Args:
        report: what to show.
        figures: exists; files of the same names are replaced.

    Raises:
        ValueError: as `write_report`.
    """
    titles = [defense.title for defense in report.defenses]
    if not titles or len(set(titles)) < len(titles):
        raise ValueError(f"A report needs at least one model, and each its own title. Received: {titles}.")
    data, epsilon_255 = report.data, float(report.card["epsilon_255"])
    metric = "MAP" if report.top_k is None else f"MAP@{report.top_k}"
    chance = chance_map(data.test.labels, data.database.labels)
    scores = {
        x.title: score_defense(x.encoded, x.attacked, data, epsilon_255=epsilon_255, top_k=report.top_k)
        for x in report.defenses
    }
    pictures = _pictures(report, scores, chance, metric)
    html = page_templates("saat_tf.evaluation.report").get_template("report.html.j2").render(
        data=data, defenses=report.defenses, scores=scores, chance=chance, metric=metric, epsilon_255=epsilon_255,
        bits=8 * report.defenses[0].encoded.database.shape[1], tie_rule=TIE_RULE,
        findings=[finding for defense in report.defenses for finding in defense.findings],
        pictures={section: [_embedded(x, figures) for x in shown] for section, shown in pictures.items()},
        facts=dict(_flat({name: x for name, x in report.card.items() if name not in SHOWN_ELSEWHERE})),
        config=dict(_flat(report.config)),
        radii=report.card.get("robust_radius", []),
        certificates=certified_rows(report.card),
        titles=DEFENSES,
    )  # fmt: skip
    # A file name that is no valid UTF-8 arrives as lone surrogates.
    return html.encode("utf-8", "replace")


def _pictures(
    report: ReportInput, scores: Mapping[str, DefenseScores], chance: float, metric: str
) -> dict[str, list[Picture]]:
    """Draw the pictures of each section."""
    data = report.data
    given = [report.transfer] if report.transfer else []
    models = [(f"{i}-{_slug(x.title)}", x.title, x.encoded) for i, x in enumerate(report.defenses, 1)]
    return {
        "maps": [map_picture(scores, chance, metric), *series_pictures(scores, chance, metric)],
        "certified": list(sandwich_pictures(report.card, chance)),
        "curves": [x for model in models for x in curve_pictures(*model, scores[model[1]], data, chance)],
        "targeted": [x for model in models for x in targeted_pictures(*model, scores[model[1]], data)],
        "examples": list(_examples(report, models, scores)),
        "mainstay": [mainstay_picture(*model, data) for model in models],
        "transfer": [transfer_picture(np.asarray(x.maps), x.surrogates, x.victims, metric) for x in given],
    }


def _examples(report: ReportInput, models: list[tuple], scores: Mapping[str, DefenseScores]) -> Iterator[Picture]:
    """Show each query under all models before the next one."""
    slugs = [slug for slug, *_ in models]
    shown = [(slug, x, x.examples) for slug, x in zip(slugs, report.defenses, strict=True) if x.examples]
    for i in range(max((len(examples.images) for *_, examples in shown), default=0)):
        for slug, defense, examples in shown:
            if i < len(examples.images):
                attack = scores[defense.title].attacks[examples.attack]
                parts = defense.encoded, report.data
                yield query_picture(slug, defense.title, i, examples.images[i], attack, parts)


def _embedded(shown: Picture, figures: Path) -> dict[str, str | int]:
    """Save a picture, and return what the page shows of it."""
    png = shown.save(figures).read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    return {"source": data_uri(png), "width": width, "height": height, "caption": shown.caption, "alt": shown.alt}


def _flat(content: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + str(name), value


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
