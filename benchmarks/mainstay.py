"""Measure mainstay codes: `python -m benchmarks.mainstay` prints times and their ratio, and draws time against N.

The direct formula weighs every item of the bank for every row of the batch, in float64 as its exactness needs; the same
in float32, which loses bits at near ties, stands beside it. The bank's way is one call of DMFL, alone and with the
update of a batch of 32 before it, as a training step does. Label rows of other N are drawn from the official ones.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from benchmarks.coco_labels import coco_labels
from saat_tf.files import write_whole
from saat_tf.layers import DMFL, CodeBank

BATCH, BITS, REPEATS, FILL_ROWS = 32, 64, 9, 8192
# The direct formula holds (32, N) weights and N rows of labels and codes: beyond a million items, tens of gigabytes.
DIRECT_SIZES, SIZES = (10_000, 112_218, 1_000_000), (10_000, 112_218, 1_000_000, 10_000_000)
PICTURE = Path(__file__).parents[1] / "docs/pictures/mainstay_time.png"


@tf.function(reduce_retracing=True)
def direct_formula(labels: tf.Tensor, item_labels: tf.Tensor, item_codes: tf.Tensor) -> tf.Tensor:
    """Compute the mainstay codes item by item in the precision of its arguments; ties within rounding are +1."""
    shared = tf.matmul(labels, item_labels, transpose_b=True)  # (B, C) @ (C, N) -> (B, N)
    sizes = tf.maximum(tf.reduce_sum(item_labels, axis=1), 1.0)
    related, unrelated = shared / tf.sqrt(sizes), tf.cast(shared == 0, shared.dtype)
    means = (
        tf.math.divide_no_nan(tf.matmul(side, item_codes), tf.reduce_sum(side, axis=1, keepdims=True))
        for side in (related, unrelated)
    )  # (B, N) @ (N, K) -> (B, K)
    score = next(means) - next(means)
    return tf.cast(tf.where(score >= -1e-12, 1.0, -1.0), tf.float32)


def bank_of_sets(label_sets: np.ndarray, set_index: np.ndarray, rng: np.random.Generator) -> CodeBank:
    """Make a bank of items with the given label sets and random codes."""
    bank = CodeBank.from_label_sets(label_sets, set_index, BITS)
    update = tf.function(bank.update, reduce_retracing=True)
    for start in range(0, len(set_index), FILL_ROWS):
        rows = min(FILL_ROWS, len(set_index) - start)
        update(tf.range(start, start + rows), random_codes(rng, rows))
    return bank


def random_codes(rng: np.random.Generator, rows: int) -> tf.Tensor:
    """Draw codes of -1/+1: float32 (rows, K)."""
    bits = np.unpackbits(rng.integers(0, 256, (rows, BITS // 8), np.uint8), axis=1)
    return tf.constant(2.0 * bits - 1.0, tf.float32)


def median_ms(function: Callable[[], object]) -> float:
    """Time a function, its first call (tracing, warm-up) left out."""
    function()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return 1e3 * float(np.median(seconds))


def measure(bank: CodeBank, labels: tf.Tensor, rng: np.random.Generator, *, direct: bool) -> dict[str, float]:
    """Return the milliseconds of each way on one bank, and how many bits of the batch differ."""
    dmfl = DMFL(bank)
    index, codes = tf.constant(rng.integers(0, bank.num_items, BATCH)), random_codes(rng, BATCH)

    @tf.function
    def update_and_read() -> tf.Tensor:
        bank.update(index, codes)
        return dmfl(labels)

    times = {"DMFL": median_ms(lambda: dmfl(labels).numpy())}
    times["update and DMFL"] = median_ms(lambda: update_and_read().numpy())
    if direct:
        item_labels = tf.gather(bank.label_sets, bank.set_index)
        for name in ("float64", "float32"):
            case = [tf.cast(x, name) for x in (labels, item_labels, bank.codes)]
            times[f"direct, {name}"] = median_ms(lambda case=case: direct_formula(*case).numpy())
            times[f"bits off, {name}"] = int((direct_formula(*case).numpy() != dmfl(labels).numpy()).sum())
    return times


def draw(results: dict[int, dict[str, float]]) -> None:
    """Draw time against N, both logarithmic, and save it."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name, color in (
        ("direct, float64", "#c1121f"),
        ("direct, float32", "#f4a261"),
        ("update and DMFL", "#2a6f97"),
        ("DMFL", "#2b9348"),
    ):
        points = [(n, times[name]) for n, times in results.items() if name in times]
        axes.loglog(*zip(*points, strict=True), "o-", color=color, label=name)
    axes.set(xlabel="items in the bank", ylabel="milliseconds, batch of 32")
    axes.set_title("Mainstay codes, 80 labels, 64 bits, label rows of MS-COCO", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    write_whole(PICTURE, lambda path: figure.savefig(path, dpi=150, format="png"))


def main() -> None:
    """Print what was measured, and draw it."""
    rng = np.random.default_rng(0)
    coco = coco_labels()
    rows = coco.listed_database
    labels = tf.constant(coco.queries[rng.choice(len(coco.queries), BATCH, replace=False)], tf.float32)
    label_sets, set_index = np.unique(rows, axis=0, return_inverse=True)
    results = {}
    for number in SIZES:
        own = set_index.reshape(-1)
        if number != len(rows):
            own = own[rng.integers(0, len(rows), number)]
        sets, own = np.unique(own, return_inverse=True)
        bank = bank_of_sets(label_sets[sets].astype(np.float32), own, rng)
        results[number] = measure(bank, labels, rng, direct=number in DIRECT_SIZES)
        print(f"N {number}, M {bank.num_label_sets}: "
              + ", ".join(f"{name} {value:.4g}" for name, value in results[number].items()))  # fmt: skip
    found = results[len(rows)]
    print(f"batch {BATCH}, N {len(rows)}, 80 labels ({coco.source}), {BITS} bits, {os.cpu_count()} cores, "
          f"median of {REPEATS}, ms")  # fmt: skip
    for name in ("float64", "float32"):
        print(f"ratio to the direct formula in {name}: {found[f'direct, {name}'] / found['DMFL']:.1f}")
    print("goal: at least 10, with 0 bits off to float64; the direct formula stops at a million items for its memory")
    draw(results)


if __name__ == "__main__":
    main()
