"""Measure many classes: `python -m benchmarks.many_classes` writes docs/results/many_classes.json and a picture.

Claim: an epoch's bookkeeping takes seconds, whatever the number of classes; the baseline is the smallest number of
them. For 10, 100 and 1,000 classes, whose label rows are those of drawn scenes (one to four labels, all classes alike,
which makes as many label sets as such rows can), and for several numbers of items: the time of the mainstay codes of a
batch, the time and memory of an epoch's bookkeeping, which is an update of the bank and mainstay codes for each batch,
and how large the bank is. The epoch is timed on some of its batches and scaled to all.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tyro

from benchmarks.mainstay import BATCH, BITS, REPEATS, bank_of_sets, random_codes
from benchmarks.timing import PICTURES, in_turns, write_result
from saat_tf.data import draw_scene_labels
from saat_tf.evaluation import peak_rss_mb
from saat_tf.files import write_whole
from saat_tf.layers import DMFL, CodeBank

CLASSES, SIZES, TIMED_BATCHES = (10, 100, 1000), (1_000, 10_000, 100_000), 100
PANELS = {
    "mainstay_ms": f"mainstay codes of a batch of {BATCH}, ms",
    "epoch_seconds": "bookkeeping of an epoch, s",
    "bank_mb": "memory of the bank, MB",
}
COLORS = ("#2b9348", "#2a6f97", "#c1121f")


def bank_of_labels(labels: np.ndarray, rng: np.random.Generator) -> CodeBank:
    """Make a bank of items with label rows (N, C) of 0/1 and random codes."""
    packed, first, set_index = np.unique(np.packbits(labels, axis=1), axis=0, return_index=True, return_inverse=True)
    del packed
    return bank_of_sets(labels[first].astype(np.float32), set_index.reshape(-1), rng)


def measure(num_classes: int, num_items: int) -> dict[str, float]:
    """Return what one number of classes and of items costs."""
    rng = np.random.default_rng(0)
    labels = draw_scene_labels(num_items, num_classes=num_classes)
    bank = bank_of_labels(labels, rng)
    dmfl = DMFL(bank)
    rows = tf.constant(draw_scene_labels(BATCH, seed=1, num_classes=num_classes), tf.float32)
    order = rng.permutation(num_items).astype(np.int32)
    batches = [tf.constant(order[i : i + BATCH]) for i in range(0, num_items, BATCH)]
    timed = [(index, random_codes(rng, len(index))) for index in batches[:TIMED_BATCHES]]

    @tf.function(reduce_retracing=True)
    def book(index: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
        bank.update(index, codes)
        return dmfl(rows)

    book(*timed[0])
    book(*timed[-1])  # a shorter last batch is traced anew
    started = time.perf_counter()
    for index, codes in timed:
        book(index, codes)
    seconds = time.perf_counter() - started
    mainstay = in_turns({"mainstay": lambda: dmfl(rows).numpy()}, repeats=REPEATS)["mainstay"]
    return {
        "num_classes": num_classes,
        "num_items": num_items,
        "num_label_sets": bank.num_label_sets,
        "mainstay_ms": round(1e3 * mainstay.median, 3),
        "epoch_seconds": round(seconds * len(batches) / len(timed), 4),
        "timed_batches": len(timed),
        "bank_mb": round(sum(weight.numpy().nbytes for weight in bank.weights) / 2**20, 3),
        "peak_rss_mb": round(peak_rss_mb()),
    }


def draw(results: list[dict], path: Path) -> None:
    """Draw each cost against the number of items, one line a number of classes, both logarithmic."""
    figure, grid = plt.subplots(1, len(PANELS), figsize=(11, 3.6), layout="constrained")
    for axes, (name, title) in zip(grid, PANELS.items(), strict=True):
        for color, num_classes in zip(COLORS, dict.fromkeys(row["num_classes"] for row in results), strict=False):
            points = [(row["num_items"], row[name]) for row in results if row["num_classes"] == num_classes]
            axes.loglog(*zip(*points, strict=True), "o-", color=color, label=f"{num_classes} classes")
        axes.set(xlabel="items")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    grid[0].legend(fontsize=8)
    write_whole(path, lambda file: figure.savefig(file, dpi=130, format="png"))
    plt.close(figure)


def main(*, quick: bool = False) -> None:
    """Measure, print, write and draw.

    Args:
        quick: two numbers of classes and of items, without the picture.
    """
    results = []
    for num_classes in CLASSES[:2] if quick else CLASSES:
        for num_items in SIZES[:2] if quick else SIZES:
            results.append(measure(num_classes, num_items))
            print(", ".join(f"{name} {value:g}" for name, value in results[-1].items()), flush=True)
    write_result(
        "many_classes", {"code_length": BITS, "batch_size": BATCH, "repeats": REPEATS, "results": results}, quick=quick
    )
    if not quick:
        draw(results, PICTURES / "many_classes.png")


if __name__ == "__main__":
    tyro.cli(main)
