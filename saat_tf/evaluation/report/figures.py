"""The figures of a report: matplotlib figures with a caption and an alternative text."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saat_tf.files import write_whole

# Okabe and Ito's colors, which color-blind readers can distinguish, without their yellow, too pale on white; markers
# and dashes distinguish lines without any color. Black is for "no attack" alone, gray for chance.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)))
CLEAN, CHANCE = "#000000", "#666666"
# A figure this wide is legible on a phone, and two fit beside each other on a desk. In inches.
WIDTH = 4.6
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": "#e4e4e4",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "svg.hashsalt": "saat_tf",  # the same figure gives the same file
    "text.parse_math": False,  # a name may contain a dollar sign
}
PNG_DPI = 160


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure and its words.

    Args:
        name: of its files, without suffix: small letters, digits and hyphens.
        figure: the figure.
        caption: one sentence in plain words that says what to see.
        alt: alternative text for screen readers.
    """

    name: str
    figure: Figure
    caption: str
    alt: str

    def save(self, folder: Path) -> Path:
        """Write `name`.png and `name`.svg into `folder`; return the path of the PNG."""
        with matplotlib.rc_context(STYLE):
            # Without the date, one figure gives one file.
            write_whole(folder / f"{self.name}.svg", lambda path: self.figure.savefig(path, metadata={"Date": None}))
            write_whole(folder / f"{self.name}.png", lambda path: self.figure.savefig(path, dpi=PNG_DPI))
        return folder / f"{self.name}.png"


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve, or a row of dots: a label, its points and, where known, the ends of their intervals."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray | None = None
    high: Sequence[float] | np.ndarray | None = None


@contextlib.contextmanager
def new_figure(height: float) -> Iterator[tuple[Figure, Axes]]:
    """Give an empty figure in the report's style, `height` inches high, and its axes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def dots(rows: Sequence[str], groups: Sequence[Line], chance: float, xlabel: str) -> Figure:
    """Draw a row of dots with 95% whiskers for each of `rows`, one dot a group, and the chance line.

    Args:
        rows: names, from top to bottom.
        groups: x contains the rows' numbers, y the values in [0, 1].
        chance: where the dashed line stands.
        xlabel: what the values are.
    """
    with new_figure(1.5 + 0.24 * len(rows) * max(1, len(groups) / 1.6)) as (figure, axes):
        for i, group in enumerate(groups):
            places = np.asarray(group.x) + 0.44 * ((i + 0.5) / len(groups) - 0.5)
            values = np.asarray(group.y)
            spread = np.abs(np.array([group.low, group.high], np.float64) - values)
            axes.errorbar(
                values, places, xerr=spread, fmt=MARKERS[i % len(MARKERS)], color=COLORS[i % len(COLORS)],
                markersize=6, capsize=2.5, linewidth=1.2, label=group.label,
            )  # fmt: skip
        axes.axvline(chance, color=CHANCE, linestyle="--", linewidth=1.3, label=f"chance {chance:.2f}", zorder=1)
        axes.set(xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel, yticks=range(len(rows)))
        axes.set_yticklabels(rows)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handletextpad=0.4)
    return figure


def curves(
    lines: Sequence[Line], *, chance: float, xlabel: str, ylabel: str, log: bool = False, first_is_clean: bool = False
) -> Figure:
    """Draw curves with values in [0, 1] over x, and the chance line.

    Args:
        lines: the curves; intervals become bands.
        chance: height of the dashed line.
        xlabel: what x is.
        ylabel: what the values are.
        log: whether x is on a logarithmic axis.
        first_is_clean: whether the first curve is that without an attack, drawn in black.
    """
    rows = (len(lines) + 2) // 2
    with new_figure(2.9 + 0.19 * rows) as (figure, axes):
        for i, line in enumerate(lines):
            clean = first_is_clean and i == 0
            k = i - first_is_clean
            color = CLEAN if clean else COLORS[k % len(COLORS)]
            axes.plot(
                line.x, line.y, color=color, linewidth=2.4 if clean else 1.5, label=line.label,
                linestyle="-" if clean else DASHES[k // len(COLORS) % len(DASHES)],
                marker=None if clean else MARKERS[k % len(MARKERS)], markersize=5,
                markevery=max(1, len(line.x) // 7),
            )  # fmt: skip
            if line.low is not None and line.high is not None:
                axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.15, linewidth=0)
        axes.axhline(chance, color=CHANCE, linestyle="--", linewidth=1.3, label=f"chance {chance:.2f}", zorder=1)
        axes.set(ylim=(0, 1.02), xlabel=xlabel, ylabel=ylabel)
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2, handlelength=2.6)
    return figure


def histograms(near: np.ndarray, far: np.ndarray) -> Figure:
    """Draw two histograms over Hamming distances 0 ... K, shares of each kind, one filled and one hatched.

    Args:
        near: float (K + 1,), share of the relevant items at each distance.
        far: the same for the other items.
    """
    with new_figure(3.0) as (figure, axes):
        places = np.arange(len(near))
        axes.bar(places, near, width=1.0, color=COLORS[0], alpha=0.75, label="share a label")
        axes.bar(places, far, width=1.0, facecolor="none", edgecolor=COLORS[1], hatch="////", label="share none")
        axes.set(xlabel="differing bits", ylabel="share of images", xlim=(-0.6, len(near) - 0.4))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def matrix(values: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draw numbers in [0, 1] as cells with their values, darker for larger."""
    with new_figure(1.5 + 0.42 * len(rows)) as (figure, axes):
        axes.grid(False)
        axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.65 else "black")
        axes.set(xlabel="searched with", ylabel="made against")
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
    return figure


def query_pictures(
    image: np.ndarray,
    adversarial_image: np.ndarray,
    gain: float,
    before: Sequence[tuple[np.ndarray, bool]],
    after: Sequence[tuple[np.ndarray, bool]],
) -> Figure:
    """Draw a query, its adversarial image and their difference, and the nearest images of both with right or wrong.

    Right results have a full frame and a tick, wrong ones a dashed frame and a cross, beside the colors.

    Args:
        image: float32 (S, S, 3) in [0, 1].
        adversarial_image: the same.
        gain: by how much the difference is multiplied before it is drawn around gray.
        before: nearest database images of the query, each with whether it is relevant.
        after: the same for the adversarial image.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 4.3), layout="constrained")
        parts = figure.subfigures(3, 1, squeeze=False, height_ratios=(1.55, 1.25, 1.25))[:, 0]
        change = np.clip(gain * (adversarial_image - image) + 0.5, 0, 1)
        titled = (("query", image), ("adversarial", adversarial_image), (f"change x {gain:.0f}", change))
        for axes, (title, shown) in zip(parts[0].subplots(1, 3), titled, strict=True):
            axes.imshow(np.clip(shown, 0, 1))
            axes.set_title(title, fontsize=10)
            axes.axis("off")
        for part, title, found in ((parts[1], "found before the attack", before), (parts[2], "found after it", after)):
            part.suptitle(title, fontsize=10)
            for axes, (shown, right) in zip(part.subplots(1, len(found), squeeze=False)[0], found, strict=True):
                axes.imshow(np.clip(shown, 0, 1))
                color = COLORS[0] if right else COLORS[1]
                for spine in axes.spines.values():
                    spine.set(visible=True, color=color, linewidth=2.5, capstyle="butt")
                    spine.set_linestyle("-" if right else (0, (1.5, 1)))
                axes.set(xticks=[], yticks=[])
                axes.set_xlabel("\u2713 right" if right else "\u2717 wrong", color=color, fontsize=10, labelpad=3)
    return figure
