"""The table and the picture of the inner attacks."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.inner.cells import BASELINE
from benchmarks.tables.figures import MISSING, kept_share, number, table
from saat_tf.files import write_whole
from saat_tf.metrics import bootstrap_interval

UNDEFENDED = "undefended"
HEADER = [
    "inner attack", "clean", "mainstay", "auto", "worst (95%)", "kept share", "worst less pgd's (95%)", "core-s",
    "times less", "core-s to pgd's robust MAP",
]  # fmt: skip


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
    undefended, baseline = cells.get(UNDEFENDED), cells.get(BASELINE)
    return table(HEADER, [row_of(kind, cell, undefended, baseline) for kind, cell in cells.items()])


def row_of(kind: str, cell: dict, undefended: dict | None, baseline: dict | None) -> list[str]:
    """Return one line of the table."""
    low, high = cell["worst_interval"]
    kept = difference = reached = None
    times = seconds = MISSING
    if undefended:
        kept = kept_share(cell["worst"], ideal=cell["ideal"], undefended=undefended["clean"])
    if "curve" in cell:
        last = cell["curve"][-1]
        seconds = f"{last['core_seconds']:.0f}"
        if baseline:
            times = f"{baseline['curve'][-1]['core_seconds'] / last['core_seconds']:.1f}"
            if undefended:
                reached = seconds_to(baseline["mainstay"], cell["curve"], undefended["mainstay"])
            if kind != BASELINE:
                difference = difference_text(cell, baseline)
    figures = [f"{cell[name]:.3f}" for name in ("clean", "mainstay", "auto")]
    robust = f"{cell['worst']:.3f} ({low:.3f}-{high:.3f})"
    return [kind, *figures, robust, number(kept, 2), difference or MISSING, seconds, times, number(reached, 0)]


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
