"""Measure MAP@5000 on MS-COCO's protocol: `python -m benchmarks.map` writes docs/results/map.json.

Claim: it takes a fiftieth of the time of the usual evaluation and less than 1 GB. The baseline is the evaluation that
this field's code shares: for each query a float32 dot product of +-1 codes, NumPy's argsort of the distances, and a
label product in int64, the type that its list readers give labels. The same with labels in float32, which lets BLAS do
the product on all cores, stands beside it, and so does each with a stable sort, whose value does not depend on the
machine. These are timed on some of the queries and scaled to all; all take turns, so that what else the machine does
falls on each, and medians are compared.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import tyro

from benchmarks.coco_labels import coco_labels
from benchmarks.timing import Timing, in_turns, show, write_result
from saat_tf.evaluation import peak_rss_mb
from saat_tf.metrics import TIE_RULES, average_precisions

BITS, TOP_K, BASELINE_QUERIES, REPEATS, OURS = 64, 5000, 50, 5, "saat-tf"


def usual_average_precision(
    query_code: np.ndarray,
    codes: np.ndarray,
    query_labels: np.ndarray,
    labels: np.ndarray,
    kind: Literal["stable"] | None = None,
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
    of_class = np.random.default_rng(1).choice(np.array([-1, 1], np.float32), (labels.shape[1], BITS))
    scores = labels.astype(np.float32) @ of_class + 0.7 * rng.standard_normal((len(labels), BITS), np.float32)
    return np.where(scores >= 0, np.float32(1), np.float32(-1))


def largest_difference_without_ties(number: int) -> float:
    """Compare both evaluations on `number` databases of 65 items, one at each distance from the query."""
    rng = np.random.default_rng(2)
    largest = 0.0
    for _ in range(number):
        query = rng.choice(np.array([-1, 1], np.float32), BITS)
        flipped = rng.permuted(np.tril(np.ones((BITS + 1, BITS), bool), k=-1), axis=1)
        codes = rng.permutation(np.where(flipped, -query, query))
        labels, query_labels = (rng.random((BITS + 1, 80)) < 0.04).astype(np.float32), np.zeros(80, np.float32)
        query_labels[rng.integers(0, 80, 10)] = 1
        usual = usual_average_precision(query, codes, query_labels, labels)
        case = np.packbits(query[None] > 0, axis=1), np.packbits(codes > 0, axis=1), query_labels[None], labels
        largest = max(largest, abs(usual - average_precisions(*case, top_k=TOP_K)[0]))
    return largest


def main(*, quick: bool = False) -> None:
    """Print and write what was measured.

    Args:
        quick: 500 queries, of which the baselines take 10, in one turn.
    """
    coco = coco_labels()
    all_queries = coco.queries[:500] if quick else coco.queries
    rng = np.random.default_rng(0)
    codes, query_codes = codes_of_labels(coco.database, rng), codes_of_labels(all_queries, rng)
    packed = np.packbits(query_codes > 0, axis=1), np.packbits(codes > 0, axis=1)

    def ours() -> np.ndarray:
        return average_precisions(*packed, all_queries, coco.database, top_k=TOP_K)

    before, scores, memory = peak_rss_mb(), ours(), peak_rss_mb()
    labels = {dtype: (all_queries.astype(dtype), coco.database.astype(dtype)) for dtype in ("int64", "float32")}
    chosen = np.linspace(0, len(query_codes) - 1, 10 if quick else BASELINE_QUERIES).astype(int)

    def usual(dtype: str, kind: Literal["stable"] | None) -> list[float]:
        query_labels, database_labels = labels[dtype]
        return [usual_average_precision(query_codes[i], codes, query_labels[i], database_labels, kind) for i in chosen]

    ways: dict[str, Callable[[], Sequence[float] | np.ndarray]] = {OURS: ours}
    for dtype in labels:
        ways[f"usual, {dtype} labels"] = functools.partial(usual, dtype, None)
        ways[f"usual, {dtype} labels, stable sort"] = functools.partial(usual, dtype, "stable")
    timings = in_turns(ways, repeats=1 if quick else REPEATS, warm_up=0)
    scale = len(query_codes) / len(chosen)
    # The baselines take some of the queries; their times are scaled to all.
    timings = {n: t if n == OURS else Timing(tuple(scale * s for s in t.seconds)) for n, t in timings.items()}
    rows = [{**t.row(n), "ratio": round(t.median / timings[OURS].median, 1)} for n, t in timings.items()]
    show(rows)
    rules = {}
    for rule in TIE_RULES:
        started = time.perf_counter()
        mean = average_precisions(*packed, all_queries, coco.database, top_k=TOP_K, tie_rule=rule).mean()
        rules[rule] = {"map": round(float(mean), 4), "seconds": round(time.perf_counter() - started, 3)}
    card = {
        "queries": len(query_codes),
        "database": len(codes),
        "code_length": BITS,
        "labels": coco.source,
        "map": round(float(scores.mean()), 4),
        "baseline_queries": len(chosen),
        "rows": rows,
        "peak_rss_mb": round(memory),
        "peak_rss_mb_before": round(before),
        "largest_difference": {
            "without ties": largest_difference_without_ties(200),
            "usual, stable sort": float(np.abs(usual("float32", "stable") - scores[chosen]).max()),
            "usual": float(np.abs(usual("float32", None) - scores[chosen]).max()),
        },
        "tie_rules": rules,
    }
    print({name: value for name, value in card.items() if name != "rows"})
    print("goals: a ratio of at least 50 to the usual evaluation, at most 1024 MB")
    write_result("map", card, quick=quick)


if __name__ == "__main__":
    tyro.cli(main)
