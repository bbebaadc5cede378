"""Measure how cost grows with the work: `python -m benchmarks.cost` writes docs/results/cost.json and two pictures.

Claims: a step's time and memory go with the images (batch, pixels) and hardly with bits; its bookkeeping (bank update,
mainstay codes, DPH) costs no more with more training items, from ten thousand to ten million. Baseline of that: DPSH,
whose formula has to look at every pair. Replicas are logical devices of one processor, which shows what they cost and
not what several processors gain. Each step is measured in a process of its own, so that its peak memory is its own.
"""

from collections.abc import Callable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tyro

from benchmarks.saat_step import ENVIRONMENT
from benchmarks.timing import PICTURES, figure, in_turns, show, write_result
from benchmarks.workers import Worker, options_of
from saat_tf.files import write_whole
from saat_tf.layers import DMFL, CodeBank
from saat_tf.losses import DPH, DPSH, HashingLoss

BATCH, BITS, REPEATS, STEP_REPEATS = 32, 32, 9, 3
ITEMS, QUICK_ITEMS, PAIRS_END = (10_000, 100_000, 1_000_000, 10_000_000), (10_000, 100_000), 1_000_000
LABELS, LABEL_SETS, MOST_LABELS = (20, 1000), 4000, 4
BASE = {
    "backbone": "efficientnet_lite0",
    "image-size": 48,
    "batch-size": 32,
    "bits": 32,
    "replicas": 1,
    "num-items": 10_000,
}
AXES = {
    "batch-size": (16, 32, 64, 128),
    "image-size": (32, 48, 64, 96),
    "bits": (16, 32, 64, 128),
    "num-items": (10_000, 100_000, 1_000_000),
    "replicas": (1, 2),
}
QUICK = {**BASE, "backbone": "small_cnn", "image-size": 32, "num-steps": 2}
QUICK_AXES = {"replicas": (1, 2)}
COLORS = {"bank update": "#2a6f97", "mainstay codes": "#2b9348", "DPH": "#e09f3e", "DPSH": "#c1121f"}


def step_rows(base: dict, axes: Mapping[str, tuple[int, ...]], repeats: int) -> list[dict]:
    """Return a row for each value of each axis, the rest being `base`."""
    rows, measured = [], {}
    for axis, values in axes.items():
        for value in values:
            options = options_of({**base, axis: value})
            if options not in measured:
                with Worker("benchmarks.step_worker", options, environment=ENVIRONMENT) as worker:
                    timing = in_turns({"step": worker}, repeats=repeats, warm_up=2)["step"]
                    measured[options] = timing.row("step", peak_rss_mb=round(worker()["peak_rss_mb"]))
            rows.append({**measured[options], "name": f"{axis} {value}", "axis": axis, "value": value})
            show(rows[-1:])
    return rows


def drawn_sets(num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Draw distinct label sets of one to four labels: float32 (M, C)."""
    sets = {
        tuple(sorted(rng.choice(num_classes, rng.integers(1, MOST_LABELS + 1), replace=False)))
        for _ in range(20 * LABEL_SETS)
    }
    labels = np.zeros((LABEL_SETS, num_classes), np.float32)
    for row, members in zip(labels, sorted(sets), strict=False):
        row[list(members)] = 1
    return labels


def bookkeeping_rows(num_items: int, num_classes: int) -> list[dict]:
    """Return a row for each part of a step's bookkeeping on a bank of some size."""
    rng = np.random.default_rng(0)
    label_sets = drawn_sets(num_classes, rng)
    bank = CodeBank.from_label_sets(label_sets, rng.integers(0, LABEL_SETS, num_items), BITS)
    labels = tf.constant(label_sets[rng.integers(0, LABEL_SETS, BATCH)])
    codes = tf.constant(rng.uniform(-1, 1, (BATCH, BITS)).astype(np.float32))
    index = tf.constant(rng.integers(0, num_items, BATCH))
    dmfl, update = DMFL(bank), tf.function(bank.update)
    ways = {"bank update": lambda: update(index, codes), "mainstay codes": lambda: dmfl(labels).numpy()}
    timings = in_turns({**ways, "DPH": loss_and_slope(DPH(), codes, labels, bank)}, repeats=REPEATS, warm_up=2)
    if num_items <= PAIRS_END:  # by itself: it leaves the others none of the cache
        timings |= in_turns({"DPSH": loss_and_slope(DPSH(), codes, labels, bank)}, repeats=REPEATS, warm_up=2)
    return [
        {**timing.row(name), "num_items": num_items, "num_classes": num_classes, "num_label_sets": LABEL_SETS}
        for name, timing in timings.items()
    ]


def loss_and_slope(loss: HashingLoss, codes: tf.Tensor, labels: tf.Tensor, bank: CodeBank) -> Callable[[], np.ndarray]:
    """Return what computes a loss and its slope in the codes of the batch."""

    @tf.function
    def slope() -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(codes)
            value = loss(codes, labels, code_bank=bank)
        return tape.gradient(value, codes)

    return lambda: slope().numpy()


def growth(rows: list[dict]) -> list[dict]:
    """Return, for each part, how many times as long it takes with the most items as with the fewest."""
    found = []
    for key in dict.fromkeys((row["name"], row["num_classes"]) for row in rows):
        own = sorted(
            (row for row in rows if (row["name"], row["num_classes"]) == key), key=lambda row: row["num_items"]
        )
        first, last = own[0], own[-1]
        found.append(
            {
                "name": key[0],
                "num_classes": key[1],
                "items": last["num_items"] / first["num_items"],
                "time": figure(last["median_s"] / first["median_s"]),
            }
        )
    return found


def draw_steps(rows: list[dict]) -> None:
    """Draw time and peak memory of a step against each axis."""
    axes_of = list(dict.fromkeys(row["axis"] for row in rows))
    figure_, grid = plt.subplots(2, len(axes_of), figsize=(2.6 * len(axes_of), 5), layout="constrained", sharey="row")
    for axis, column in zip(axes_of, grid.T, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        values = [row["value"] for row in own]
        for axes, name, color in zip(column, ("median_s", "peak_rss_mb"), ("#2a6f97", "#c1121f"), strict=True):
            axes.plot(values, [row[name] for row in own], "o-", color=color)
            axes.set(xlabel=axis.replace("-", " "), xscale="log")
            axes.set_xticks(values, [f"{value:,}" for value in values], rotation=30 if axis == "num-items" else 0)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
    for axes, label in zip(grid[:, 0], ("s a step", "peak memory, MB"), strict=True):
        axes.set(ylabel=label, ylim=(0, None))  # its row shares it, and what it shows is all drawn
    save(figure_, "cost_step.png")


def draw_bookkeeping(rows: list[dict]) -> None:
    """Draw the time of each part against the number of items, both logarithmic."""
    figure_, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, color in COLORS.items():
        for num_classes, style in zip(LABELS, ("o-", "s--"), strict=True):
            own = [row for row in rows if (row["name"], row["num_classes"]) == (name, num_classes)]
            points = [(row["num_items"], 1e3 * row["median_s"]) for row in own]
            axes.loglog(*zip(*points, strict=True), style, color=color, label=f"{name}, {num_classes:,} labels")
    axes.set(xlabel="training items", ylabel=f"ms for a batch of {BATCH}")
    axes.grid(alpha=0.3)
    figure_.legend(fontsize=8, loc="outside right upper")
    save(figure_, "cost_bookkeeping.png")


def save(drawn: plt.Figure, name: str) -> None:
    """Write a picture and close it."""
    write_whole(PICTURES / name, lambda file: drawn.savefig(file, dpi=130, format="png"))
    plt.close(drawn)


def main(*, quick: bool = False) -> None:
    """Measure, print, write and draw.

    Args:
        quick: a small network and few sizes, without pictures: whether it works.
    """
    bookkeeping = []
    for num_classes in LABELS:
        for num_items in QUICK_ITEMS if quick else ITEMS:
            rows = bookkeeping_rows(num_items, num_classes)
            show(rows)
            bookkeeping += rows
    for row in growth(bookkeeping):
        print("{items:g} times the items, {name}, {num_classes} labels: {time} times the time".format(**row))
    steps = step_rows(QUICK if quick else BASE, QUICK_AXES if quick else AXES, STEP_REPEATS)
    card = {"base": QUICK if quick else BASE, "steps": steps, "bookkeeping": bookkeeping, "growth": growth(bookkeeping)}
    write_result("cost", card, quick=quick)
    if not quick:
        draw_steps(steps)
        draw_bookkeeping(bookkeeping)


if __name__ == "__main__":
    tyro.cli(main)
