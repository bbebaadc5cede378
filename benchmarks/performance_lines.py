"""Rows of the benchmarks' cards that the pages show, each beside its baseline."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

OURS = "saat-tf"
# What README judges an attack that stops early by.
HEADLINE_ATTACK = ("saat", "mainstay")


@dataclasses.dataclass(frozen=True)
class Line:
    """A measured way beside its baseline.

    Args:
        row: figures of a card: `median_s`, and where they are known `least_s` and `most_s`, or `p99_s`.
        baseline: the same of the baseline, if there is one.
        headline: whether README shows it too: one line a benchmark, beside the fastest baseline of the largest work.
    """

    row: Mapping
    baseline: Mapping | None = None
    headline: bool = False


def step_lines(card: Mapping) -> Iterator[Line]:
    """Yield each other way to do an SAAT step, beside ours of the same turns."""
    others = [row for row in card["rows"] if row["name"].startswith("PyTorch") and "failed" not in row]
    fastest = min(others, key=_median, default=None)
    for row in card["rows"]:
        if row["name"] == OURS:
            ours = row
        elif "failed" not in row:
            yield Line(ours, row, row is fastest)


def map_lines(card: Mapping) -> Iterator[Line]:
    """Yield MAP@5000 beside each form of the usual evaluation."""
    ours, *others = card["rows"]
    fastest = min(others, key=_median, default=None)
    return (Line(ours, row, row is fastest) for row in others)


def mainstay_lines(card: Mapping) -> Iterator[Line]:
    """Yield mainstay codes at each number of items beside the formula over all of them, where that was timed."""
    direct = [row for row in card["rows"] if row["name"].startswith("direct")]
    exact = [row for row in direct if not row["bits_off"]]
    most = max((row["items"] for row in exact), default=None)
    fastest = min((row for row in exact if row["items"] == most), key=_median, default=None)
    for ours in (row for row in card["rows"] if row["name"] == "DMFL"):
        same = [row for row in direct if row["items"] == ours["items"]]
        yield from (Line(ours, row, row is fastest) for row in same)
        if not same:
            yield Line(ours)


def pair_lines(card: Mapping) -> Iterator[Line]:
    """Yield DPH beside DPSH, whose formula looks at each pair, at the most items that both were timed at."""
    rows = {(row["name"], row["num_classes"], row["num_items"]): row for row in card["bookkeeping"]}
    most_classes = max((classes for name, classes, _ in rows if name == "DPSH"), default=None)
    for (name, classes, items), row in rows.items():
        if name == "DPSH" and items == max(n for loss, c, n in rows if (loss, c) == ("DPSH", classes)):
            yield Line(rows["DPH", classes, items], row, classes == most_classes)


def attack_lines(card: Mapping) -> Iterator[Line]:
    """Yield each attack that stops early beside the plain loop, in time of the processor, and the change of MAP.

    Each was run once: threads that share a core for a while change the clock's time more than the processor's.
    """
    rows = {}
    for row in card["rows"]:
        shown = {name: row[name] for name in ("model", "attack", "way", "map_difference")}
        rows[row["model"], row["attack"], row["way"]] = {**shown, "median_s": row["processor_s"]}
    for (model, attack, way), row in rows.items():
        if way == "folded, early stop":
            yield Line(row, rows[model, attack, "plain loop"], (model, attack) == HEADLINE_ATTACK)


def pipeline_lines(card: Mapping) -> Iterator[Line]:
    """Yield each way to read images beside the decode limit."""
    limits = {row["image_size"]: row for row in card["rows"] if row["name"] == "decode limit"}
    return (Line(row, limits[row["image_size"]]) for row in card["rows"] if row["name"] != "decode limit")


def encoder_lines(card: Mapping) -> Iterator[Line]:
    """Yield each runtime with a single image beside the faster SavedModel."""
    rows = [{**row, "median_s": row["p50_ms"] / 1e3, "p99_s": row["p99_ms"] / 1e3} for row in card["rows"]]
    single = [row for row in rows if row["batch"] == 1]
    models = [row for row in single if row["runtime"].startswith("SavedModel")]
    baseline = min(models, key=lambda row: row["median_s"])
    return (Line(row, baseline) for row in single if row not in models)


def demo_lines(card: Mapping) -> Iterator[Line]:
    """Yield what the demo takes."""
    yield Line({"median_s": card["seconds"]})


def _median(row: Mapping) -> float:
    return row["median_s"]


# Name of a benchmark: its lines from its card.
LINES: dict[str, Callable[[Mapping], Iterator[Line]]] = {
    "saat_step": step_lines,
    "attack_speed": attack_lines,
    "map": map_lines,
    "mainstay": mainstay_lines,
    "cost": pair_lines,
    "pipeline": pipeline_lines,
    "encoder": encoder_lines,
    "demo": demo_lines,
}
