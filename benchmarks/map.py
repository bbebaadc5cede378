"""Measure MAP@5000 on MS-COCO's protocol: `python -m benchmarks.map` prints seconds, their ratio and the memory.

The baseline is the evaluation that this field's code shares: for each query a float32 dot product of +-1 codes,
NumPy's argsort of the distances, and a label product in int64, the type that its list readers give labels. The same
with labels in float32, which lets BLAS do the product on all cores, stands beside it, and so does each with a stable
sort, whose value does not depend on the machine. These are timed on some of the queries and scaled to all; all take
turns, so that what else the machine does falls on each, and medians are compared.
"""

import functools
import os
import time

import numpy as np

from benchmarks.coco_labels import coco_labels
from saat_tf.evaluation import peak_rss_mb
from saat_tf.metrics import TIE_RULES, average_precisions

BITS, TOP_K, BASELINE_QUERIES, REPEATS = 64, 5000, 50, 5


def usual_average_precision(
    query_code: np.ndarray,
    codes: np.ndarray,
    query_labels: np.ndarray,
    labels: np.ndarray,
    kind: str | None = None,
) -> float:
    """Compute AP@5000 of one query in the usual way, from float32 codes of -1/+1 and 0/1 labels."""
    relevant = (query_labels @ labels.T > 0).astype(np.float32)  # (C,) @ (C, N) -> (N,)
    distances = 0.5 * (codes.shape[1] - query_code @ codes.T)  # (K,) @ (K, N) -> (N,)
    relevant = relevant[np.argsort(distances, kind=kind)][:TOP_K]
    found = int(relevant.sum())
    if not found:
        return 0.0
    return float(np.mean(np.arange(1, found + 1) / (np.flatnonzero(relevant) + 1)))


def codes_of_labels(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw codes as a trained model gives them: near for shared labels, with some bits off. float32 (N, K)."""
    of_class = np.random.default_rng(1).choice(np.float32([-1, 1]), (labels.shape[1], BITS))
    scores = labels.astype(np.float32) @ of_class + 0.7 * rng.standard_normal((len(labels), BITS), np.float32)
    return np.where(scores >= 0, np.float32(1), np.float32(-1))


def largest_difference_without_ties(number: int) -> float:
    """Compare both evaluations on `number` databases of 65 items, one at each distance from the query."""
    rng = np.random.default_rng(2)
    largest = 0.0
    for _ in range(number):
        query = rng.choice(np.float32([-1, 1]), BITS)
        flipped = rng.permuted(np.tril(np.ones((BITS + 1, BITS), bool), k=-1), axis=1)
        codes = rng.permutation(np.where(flipped, -query, query))
        labels, query_labels = (rng.random((BITS + 1, 80)) < 0.04).astype(np.float32), np.zeros(80, np.float32)
        query_labels[rng.integers(0, 80, 10)] = 1
        usual = usual_average_precision(query, codes, query_labels, labels)
        case = np.packbits(query[None] > 0, axis=1), np.packbits(codes > 0, axis=1), query_labels[None], labels
        largest = max(largest, abs(usual - average_precisions(*case, top_k=TOP_K)[0]))
    return largest


def main() -> None:
    """Print what was measured."""
    coco = coco_labels()
    rng = np.random.default_rng(0)
    codes, query_codes = codes_of_labels(coco.database, rng), codes_of_labels(coco.queries, rng)
    packed = np.packbits(query_codes > 0, axis=1), np.packbits(codes > 0, axis=1)

    def ours() -> np.ndarray:
        return average_precisions(*packed, coco.queries, coco.database, top_k=TOP_K)

    before, scores, memory = peak_rss_mb(), ours(), peak_rss_mb()
    print(f"{len(query_codes)} queries, database {len(codes)}, {BITS} bits, {coco.database.shape[1]} labels "
          f"({coco.source}), {len(np.unique(packed[1], axis=0))} distinct codes, {os.cpu_count()} cores, "
          f"MAP@{TOP_K} {scores.mean():.4f}")  # fmt: skip
    print(f"peak memory {memory:.0f} MB (goal: at most 1024), {before:.0f} MB before the evaluation")

    labels = {dtype: (coco.queries.astype(dtype), coco.database.astype(dtype)) for dtype in ("int64", "float32")}
    chosen = np.linspace(0, len(query_codes) - 1, BASELINE_QUERIES).astype(int)

    def usual(dtype: str, kind: str | None) -> list[float]:
        query_labels, database_labels = labels[dtype]
        return [usual_average_precision(query_codes[i], codes, query_labels[i], database_labels, kind) for i in chosen]

    ways = {"here": ours}
    for dtype in labels:
        ways[f"usual, {dtype} labels"] = functools.partial(usual, dtype, None)
        ways[f"usual, {dtype} labels, stable sort"] = functools.partial(usual, dtype, "stable")
    seconds = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            share = 1 if name == "here" else len(query_codes) / len(chosen)
            seconds[name].append((time.perf_counter() - started) * share)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    print(f"seconds for all queries, median of {REPEATS} (least, most); the usual on {len(chosen)} queries and scaled")
    for name, times in seconds.items():
        print(f"{name:34} {medians[name]:7.2f} ({min(times):.2f}, {max(times):.2f})  "
              f"ratio {medians[name] / medians['here']:.1f}")  # fmt: skip
    print("goal: a ratio of at least 50 to the usual evaluation")
    print(f"largest difference in AP: {largest_difference_without_ties(200):.1e} without ties, "
          f"{np.abs(usual('float32', 'stable') - scores[chosen]).max():.1e} to the usual with a stable sort, "
          f"{np.abs(usual('float32', None) - scores[chosen]).max():.1e} to the usual as it is")  # fmt: skip
    for rule in TIE_RULES:
        started = time.perf_counter()
        mean = average_precisions(*packed, coco.queries, coco.database, top_k=TOP_K, tie_rule=rule).mean()
        print(f"{rule:12} MAP@{TOP_K}      {mean:8.4f}, {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
