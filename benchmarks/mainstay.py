"""Measure mainstay codes: `python -m benchmarks.mainstay` writes docs/results/mainstay.json and a picture.

Claim: at MS-COCO's size they take a tenth of the time of the formula over all items, or less, with the same bits, and
no more at ten million items. Baseline: the direct formula, which weighs every item of the bank for every row of the
batch, in float64 as its exactness needs; the same in float32, which loses bits at near ties, stands beside it. The
bank's way is one call of DMFL, alone and with the update of a batch of 32 before it, as a training step does. Label
rows of other N are drawn from the official ones.
"""

import functools
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tyro

from benchmarks.coco_labels import coco_labels
from benchmarks.timing import PICTURES, in_turns, show, write_result
from saat_tf.files import write_whole
from saat_tf.layers import DMFL, CodeBank

BATCH, BITS, REPEATS, FILL_ROWS = 32, 64, 9, 8192
# The direct formula contains (32, N) weights and N rows of labels and codes: beyond a million items, tens of gigabytes.
DIRECT_SIZES, SIZES = (10_000, 112_218, 1_000_000), (10_000, 112_218, 1_000_000, 10_000_000)
PICTURE = PICTURES / "mainstay_time.png"


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


def timed_formula(*case: tf.Tensor) -> np.ndarray:
    """Compute the formula, and wait until it is computed."""
    return direct_formula(*case).numpy()


def measure(bank: CodeBank, labels: tf.Tensor, rng: np.random.Generator, *, direct: bool) -> list[dict]:
    """Return a row for each way on one bank: its time, and how many bits of the batch differ from DMFL's."""
    dmfl = DMFL(bank)
    index, codes = tf.constant(rng.integers(0, bank.num_items, BATCH)), random_codes(rng, BATCH)

    @tf.function
    def update_and_read() -> tf.Tensor:
        bank.update(index, codes)
        return dmfl(labels)

    update_and_read()
    ways: dict[str, Callable[[], np.ndarray]] = {
        "DMFL": lambda: dmfl(labels).numpy(),
        "update and DMFL": lambda: update_and_read().numpy(),
    }
    if direct:
        item_labels = tf.gather(bank.label_sets, bank.set_index)
        for name in ("float64", "float32"):
            case = [tf.cast(x, name) for x in (labels, item_labels, bank.codes)]
            ways[f"direct, {name}"] = functools.partial(timed_formula, *case)
    expected = ways["DMFL"]()
    # Our own are timed by themselves: the formula leaves them none of the cache.
    own = {name: ways.pop(name) for name in ("DMFL", "update and DMFL")}
    timings = {**in_turns(own, repeats=REPEATS), **in_turns(ways, repeats=REPEATS)}
    sizes = {"items": bank.num_items, "label_sets": bank.num_label_sets}
    return [
        timing.row(name, baseline=timings.get("direct, float64"), **sizes, bits_off=int((way() != expected).sum()))
        for (name, way), timing in zip({**own, **ways}.items(), timings.values(), strict=True)
    ]


def draw(rows: list[dict]) -> None:
    """Draw time against N, both logarithmic, and save it."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name, color in (
        ("direct, float64", "#c1121f"),
        ("direct, float32", "#f4a261"),
        ("update and DMFL", "#2a6f97"),
        ("DMFL", "#2b9348"),
    ):
        points = [(row["items"], 1e3 * row["median_s"]) for row in rows if row["name"] == name]
        axes.loglog(*zip(*points, strict=True), "o-", color=color, label=name)
    axes.set(xlabel="items in the bank", ylabel="milliseconds, batch of 32")
    axes.set_title("Mainstay codes, 80 labels, 64 bits, label rows of MS-COCO", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    write_whole(PICTURE, lambda path: figure.savefig(path, dpi=150, format="png"))


def main(*, quick: bool = False) -> None:
    """Print, write and draw what was measured.

    Args:
        quick: up to MS-COCO's number of items alone, without the picture.
    """
    rng = np.random.default_rng(0)
    coco = coco_labels()
    listed = coco.listed_database
    labels = tf.constant(coco.queries[rng.choice(len(coco.queries), BATCH, replace=False)], tf.float32)
    label_sets, set_index = np.unique(listed, axis=0, return_inverse=True)
    rows = []
    for number in SIZES[:2] if quick else SIZES:
        own = set_index.reshape(-1)
        if number != len(listed):
            own = own[rng.integers(0, len(listed), number)]
        sets, own = np.unique(own, return_inverse=True)
        bank = bank_of_sets(label_sets[sets].astype(np.float32), own, rng)
        found = measure(bank, labels, rng, direct=number in DIRECT_SIZES)
        show(found)
        rows += found
    print("goal: a ratio of at least 10 at MS-COCO's size; the direct formula stops at a million items for its memory")
    card = {"batch_size": BATCH, "code_length": BITS, "labels": coco.source, "rows": rows}
    write_result("mainstay", card, quick=quick)
    if not quick:
        draw(rows)


if __name__ == "__main__":
    tyro.cli(main)
