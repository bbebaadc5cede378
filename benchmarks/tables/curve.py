"""The picture of the trade-off: clean against robust MAP, one point a training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.tables.cells import Cell, trade_off_cells
from benchmarks.tables.figures import row_of
from saat_tf.files import write_whole

OPTIONS = {"epsilon_255": ("epsilon {:g}/255", "#2a6f97"), "adversarial_weight": ("lambda {:g}", "#c1121f")}
# Both lines go through the published point: names stand on different sides of it.
PLACES: dict[str, dict[str, Any]] = {
    "epsilon_255": {"xytext": (5, 5), "va": "bottom"},
    "adversarial_weight": {"xytext": (5, -5), "va": "top"},
}


def draw_trade_off(cards: Mapping[str, dict], path: Path) -> None:
    """Draw the points that there are, one line for each option that varies, and save the picture."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for option, (text, color) in OPTIONS.items():
        cells = [cell for cell in trade_off_cells() if cell.name in cards and _varies_alone(cell, option)]
        cells.sort(key=lambda cell: getattr(cell, option))
        points = [_point(cards[cell.name]) for cell in cells]
        if points:
            clean, robust, clean_reach, robust_reach = zip(*points, strict=True)
            across, along = (list(zip(*reach, strict=True)) for reach in (clean_reach, robust_reach))
            label = f"several {text.split()[0]}s"
            axes.errorbar(
                clean,
                robust,
                xerr=across,
                yerr=along,
                fmt="o-",
                color=color,
                ecolor="#ced4da",
                elinewidth=0.8,
                label=label,
            )
        for cell, point in zip(cells, points, strict=True):
            name, place = text.format(getattr(cell, option)), PLACES[option]
            axes.annotate(name, point[:2], fontsize=7, color=color, textcoords="offset points", **place)
    undefended = cards.get(Cell(defense="none").name)
    if undefended:
        axes.plot(*_point(undefended)[:2], "s", color="#6c757d", label="undefended")
        chance = undefended["chance_map"]
        axes.axhline(chance, color="black", linestyle="--", linewidth=1, label=f"chance {chance:.3f}")
    axes.set(xlabel="MAP without an attack", ylabel="MAP under mainstay, 8/255")
    figure.legend(fontsize=8, loc="outside upper center", ncols=4)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: figure.savefig(file, dpi=130, format="png"))
    plt.close(figure)


def _varies_alone(cell: Cell, option: str) -> bool:
    """Return whether a cell has the published value in every option but this one."""
    published = Cell(defense=cell.defense)
    return all(getattr(cell, other) == getattr(published, other) for other in OPTIONS if other != option)


def _point(card: dict) -> tuple[float, float, tuple[float, float], tuple[float, float]]:
    """Return clean and robust MAP, and how far the interval of each reaches down and up."""
    rows = [row for attack in ("none", "mainstay") if (row := row_of(card, attack))]
    reaches = [(row["value"] - row["interval"][0], row["interval"][1] - row["value"]) for row in rows]
    return rows[0]["value"], rows[1]["value"], *reaches
