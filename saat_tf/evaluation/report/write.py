"""The report of a run: one HTML file that needs nothing else, and its figures as PNG and SVG beside it."""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from saat_tf.evaluation.report.figures import Picture
from saat_tf.evaluation.report.page import element, page, picture
from saat_tf.evaluation.report.report_input import ReportInput
from saat_tf.evaluation.report.report_parts import (
    configuration,
    findings,
    map_table,
    target_table,
    tiles,
    visibility_table,
)
from saat_tf.evaluation.report.report_pictures import (
    curve_pictures,
    mainstay_picture,
    map_picture,
    query_picture,
    series_pictures,
    targeted_pictures,
    transfer_picture,
)
from saat_tf.evaluation.scores import DefenseScores, score_defense
from saat_tf.files import write_whole
from saat_tf.metrics import chance_map


def write_report(report: ReportInput, folder: Path) -> Path:
    """Write report.html and figures/ into `folder`, each file whole; return the path of report.html.

    The page holds its images and its style, runs no script and asks for nothing from outside. All scores are computed
    anew from the stored codes, so they follow the codes and not the card.

    Args:
        report: what to show.
        folder: exists; files of the same names are replaced.

    Raises:
        ValueError: no model, two of one title, or codes and labels of different numbers.
    """
    titles = [defense.title for defense in report.defenses]
    if not titles or len(set(titles)) < len(titles):
        raise ValueError(f"A report needs at least one model, and each its own title. Received: {titles}.")
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    path = folder / "report.html"
    content = page(f"{report.data.name}: robustness report", *_content(report, figures))
    write_whole(path, lambda temporary: temporary.write_bytes(content))
    return path


def _content(report: ReportInput, figures: Path) -> Iterator[Element]:
    data, epsilon = report.data, float(report.card["epsilon_255"])
    metric = "MAP" if report.top_k is None else f"MAP@{report.top_k}"
    chance = chance_map(data.test.labels, data.database.labels)
    scores = {
        x.title: score_defense(x.encoded, x.attacked, data, epsilon_255=epsilon, top_k=report.top_k)
        for x in report.defenses
    }
    slugs = {title: f"{i + 1}-{_slug(title)}" for i, title in enumerate(scores)}
    bits = 8 * report.defenses[0].encoded.database.shape[1]
    yield element("h1", f"{data.name}: does the search withstand attacks?")
    yield element(
        "p",
        f"{len(data.test)} queries on {len(data.database)} images, codes of {bits} bits; an attacker may change every "
        f"pixel by up to {epsilon:g}/255.",
        class_="soft",
    )
    yield element("div", *tiles(report, scores, chance, metric), class_="tiles")

    def show(pictures: Iterable[Picture], kind: str = "figures") -> Element:
        return element("div", *(_embedded(x, figures) for x in pictures), class_=kind)

    yield element("h2", "How good the search is")
    yield element(
        "p",
        f"{metric} is 1 where every right image comes first; an image is right when it shares a label with the query. "
        "The worst of all keeps for each query the attack that hurts it most. The ideal attack is a bound: the code "
        "that attacks aim for, which no image need have. Whiskers and shades are 95% intervals.",
    )
    series = series_pictures(scores, chance, metric)
    yield show([map_picture(scores, chance, metric), *series], "figures lead")
    yield map_table(scores, chance, metric)
    curves = [
        x for d in report.defenses
        for x in curve_pictures(slugs[d.title], d.title, d.encoded, scores[d.title], data, chance)
    ]  # fmt: skip
    if curves:
        yield element("h2", "Right and wrong along the result list")
        yield show(curves)
    targeted = [
        x for d in report.defenses for x in targeted_pictures(slugs[d.title], d.title, d.encoded, scores[d.title], data)
    ]  # fmt: skip
    if targeted:
        yield element("h2", "Attacks with a target")
        yield element("p", "The attacker picks labels that the query does not have and wants their images to be found.")
        yield show(targeted)
        yield target_table(scores)
    examples = list(_examples(report, slugs, scores))
    if examples:
        yield element("h2", "What it looks like")
        yield element("p", "Right images have a full frame and a tick, wrong ones a dashed frame and a cross.")
        yield show(examples)
    yield element("h2", "Codes of labels")
    yield element("p", "The mainstay code stands for a set of labels. Attacks drive a query away from its own.")
    yield show(mainstay_picture(slugs[d.title], d.title, d.encoded, data) for d in report.defenses)
    if report.transfer:
        given = report.transfer
        yield element("h2", "Attacks carried over from another model")
        yield show([transfer_picture(np.asarray(given.maps), given.surrogates, given.victims, metric)])
    if any(d.findings for d in report.defenses):
        yield element("h2", "Can these figures be believed?")
        yield element("p", "Checks look for the known ways in which an attack fails for reasons of its own.")
        yield from (part for d in report.defenses if d.findings for part in findings(d))
    yield element("h2", "How it was made")
    if any(d.attacked for d in report.defenses):
        yield visibility_table(report.defenses)
    yield from configuration(report)


def _examples(report: ReportInput, slugs: Mapping[str, str], scores: Mapping[str, DefenseScores]) -> Iterator[Picture]:
    """Show each query under all models before the next one."""
    shown = [defense for defense in report.defenses if defense.examples]
    for i in range(max((len(defense.examples.images) for defense in shown), default=0)):
        for defense in shown:
            if i < len(defense.examples.images):
                attack = scores[defense.title].attacks[defense.examples.attack]
                parts = defense.encoded, report.data
                yield query_picture(slugs[defense.title], defense.title, i, defense.examples.images[i], attack, parts)


def _embedded(shown: Picture, figures: Path) -> Element:
    png = shown.save(figures).read_bytes()
    return picture(png, struct.unpack(">II", png[16:24]), shown.caption, shown.alt)


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
