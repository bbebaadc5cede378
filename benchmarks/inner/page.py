"""The table and the picture of the inner attacks."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.inner.cells import BASELINE
from benchmarks.markdown import TEMPLATES
from benchmarks.tables.figures import kept_share
from saat_tf.files import write_whole
from saat_tf.metrics import bootstrap_interval

UNDEFENDED = "undefended"


def seconds_to(target: float, curve: list[dict], start: float) -> float | None:
    """Return after how many core seconds a curve reaches a robust MAP, on straight lines between its points.

    Args:
        target: the robust MAP.
        curve: points with "core_seconds" and "mainstay".
        start: robust MAP at 0 seconds.

    Example:
        >>> points = [{"core_seconds": 10.0, "mainstay": 0.3}, {"core_seconds": 20.0, "mainstay": 0.5}]
        >>> seconds_to(0.4, points, 0.1), seconds_to(0.6, points, 0.1)
        (15.0, None)
    """
    before, robust = 0.0, start
    for point in curve:
        if point["mainstay"] >= target:
            share = 0.0 if robust >= target else (target - robust) / (point["mainstay"] - robust)
            return before + share * (point["core_seconds"] - before)
        before, robust = point["core_seconds"], point["mainstay"]
    return None


def markdown(cells: Mapping[str, dict]) -> str:
    """Return the table of one data set, whose cells are by kind."""
    return TEMPLATES.get_template("inner/table.md.j2").render(
        cells=cells, undefended=cells.get(UNDEFENDED), baseline=cells.get(BASELINE), kept_share=kept_share,
        seconds_to=seconds_to, difference_text=difference_text,
    )  # fmt: skip


def difference_text(cell: dict, baseline: dict) -> str:
    """Return by how much the worst case differs, with the interval of the differences query by query."""
    pairs = np.array(cell["worst_average_precisions"]) - np.array(baseline["worst_average_precisions"])
    low, high = bootstrap_interval(pairs)
    return f"{pairs.mean():+.3f} ({low:+.3f}, {high:+.3f})"


def draw(data_sets: Mapping[str, Mapping[str, dict]], path: Path) -> None:
    """Draw robust MAP against core seconds of training, a panel a data set and a curve an inner attack."""
    figure, panels = plt.subplots(
        1, len(data_sets), figsize=(5.2 * len(data_sets), 4.2), layout="constrained", squeeze=False
    )
    for axes, (name, cells) in zip(panels[0], data_sets.items(), strict=True):
        trained = {kind: cell for kind, cell in cells.items() if "curve" in cell}
        colors = plt.get_cmap("tab10")
        for i, (kind, cell) in enumerate(trained.items()):
            start = [(0.0, cells[UNDEFENDED]["mainstay"])] if UNDEFENDED in cells else []
            points = start + [(point["core_seconds"], point["mainstay"]) for point in cell["curve"]]
            axes.plot(*zip(*points, strict=True), "o-", color=colors(i % 10), markersize=4, label=kind)
        if BASELINE in cells:
            axes.axhline(cells[BASELINE]["mainstay"], color="black", linestyle="--", linewidth=0.8)
        axes.set(title=name, xlabel="core seconds of adversarial training", ylabel="MAP under mainstay, 8/255")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: figure.savefig(file, dpi=130, format="png"))
    plt.close(figure)
