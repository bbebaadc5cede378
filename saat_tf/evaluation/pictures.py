"""Pictures of a result: the MAPs side by side, and what an attack does to single queries."""

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saat_tf.data import RetrievalData
from saat_tf.evaluation.card import DEFENSES, defenses_of, result_value
from saat_tf.evaluation.evaluate import RetrievalReport
from saat_tf.files import write_whole
from saat_tf.hamming import hamming_distances, rank

CLEAN, ATTACKED, BOUND = "#2a6f97", "#c1121f", "#adb5bd"
RELEVANT, UNRELATED = "#2b9348", "#c1121f"
SHOWN_RESULTS = 5


@dataclasses.dataclass(frozen=True)
class AttackedQuery:
    """One query, its adversarial image, and the nearest database images of each.

    Args:
        title: what model, and the labels of the query.
        image: float32 (S, S, 3) in [0, 1].
        adversarial_image: float32 (S, S, 3) in [0, 1].
        before: nearest database images of the query, each with whether it is relevant.
        after: the same for the adversarial image.
    """

    title: str
    image: np.ndarray
    adversarial_image: np.ndarray
    before: list[tuple[np.ndarray, bool]]
    after: list[tuple[np.ndarray, bool]]


def plot_maps(card: dict, path: Path) -> None:
    """Draw clean, attacked and ideal-attack MAP of the undefended and the robust model, with the chance line."""
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    series = (("none", "clean", CLEAN), ("mainstay", "under attack", ATTACKED), ("ideal", "ideal attack", BOUND))
    defenses = defenses_of(card)
    for offset, (attack, label, color) in enumerate(series):
        values = [result_value(card, defense=defense, attack=attack) for defense in defenses]
        places = np.arange(len(defenses)) + 0.26 * (offset - 1)
        bars = axes.bar(places, values, width=0.24, label=label, color=color)
        axes.bar_label(bars, fmt="%.3f", fontsize=8)
    axes.axhline(
        card["chance_map"], color="black", linestyle="--", linewidth=1, label=f"chance {card['chance_map']:.3f}"
    )
    axes.set_xticks(range(len(defenses)), [DEFENSES[defense] for defense in defenses])
    axes.set(ylim=(0, 1.05), ylabel=f"MAP@{card['results'][0]['top_k']}")
    axes.set_title(f"{card['dataset']}, {card['code_length']} bits, epsilon {card['epsilon_255']:g}/255", fontsize=10)
    figure.legend(fontsize=8, ncols=4, loc="outside lower center")
    _save(figure, path)


def attacked_queries(
    model: str, report: RetrievalReport, data: RetrievalData, chosen: list[int]
) -> list[AttackedQuery]:
    """Look up what `plot_queries` shows of the queries `chosen`, whose adversarial images the report has kept."""
    queries = []
    for i in chosen:
        labels = data.test.labels[i]
        names = ", ".join(data.class_names[c] for c in np.flatnonzero(labels).tolist())
        queries.append(
            AttackedQuery(
                title=f"{model}: {names}",
                image=data.test.load(i).numpy(),
                adversarial_image=report.adversarial_images[i],
                before=_nearest(report.query_codes[i], report, data, labels),
                after=_nearest(report.adversarial_codes[i], report, data, labels),
            )
        )
    return queries


def _nearest(
    code: np.ndarray, report: RetrievalReport, data: RetrievalData, labels: np.ndarray
) -> list[tuple[np.ndarray, bool]]:
    found = rank(hamming_distances(code[None], report.database_codes), SHOWN_RESULTS)[0]
    return [(data.database.load(j).numpy(), bool(labels @ data.database.labels[j] > 0)) for j in found]


def plot_queries(queries: list[AttackedQuery], epsilon: float, path: Path) -> None:
    """Draw a row a query: image, adversarial image, their difference around gray, nearest images before and after.

    Results framed green share a label with the query, red ones do not. The difference is scaled so that +-epsilon
    becomes white and black.
    """
    columns = 3 + 1 + SHOWN_RESULTS + 1 + SHOWN_RESULTS
    widths = [1, 1, 1, 0.25, *[1] * SHOWN_RESULTS, 0.25, *[1] * SHOWN_RESULTS]
    figure, grid = plt.subplots(
        len(queries), columns, figsize=(13.5, 1.12 * len(queries) + 0.5), layout="constrained", squeeze=False,
        gridspec_kw={"width_ratios": widths},
    )  # fmt: skip
    for axes in grid.flat:
        axes.axis("off")
    headers = {0: "query", 1: "adversarial", 2: "difference", 6: "nearest before", 12: "nearest after"}
    for column, header in headers.items():
        grid[0, column].set_title(header + "\n", fontsize=9, weight="bold")
    for row, query in zip(grid, queries, strict=True):
        difference = (query.adversarial_image - query.image) / max(2 * epsilon, 1e-9) + 0.5
        for axes, image in zip(row, (query.image, query.adversarial_image, difference), strict=False):
            axes.imshow(np.clip(image, 0, 1))
        title = row[0].text(0, 1.04, query.title, transform=row[0].transAxes, fontsize=7, va="bottom")
        title.set_in_layout(False)  # it may run over the next columns without pushing them away
        for axes, (image, relevant) in zip(row[4 : 4 + SHOWN_RESULTS], query.before, strict=False):
            _show_framed(axes, image, relevant)
        for axes, (image, relevant) in zip(row[5 + SHOWN_RESULTS :], query.after, strict=False):
            _show_framed(axes, image, relevant)
    _save(figure, path)


def _show_framed(axes: Axes, image: np.ndarray, relevant: bool) -> None:
    axes.imshow(np.clip(image, 0, 1))
    axes.axis("on")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=RELEVANT if relevant else UNRELATED, linewidth=2.5)


def _save(figure: Figure, path: Path) -> None:
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))
    plt.close(figure)
