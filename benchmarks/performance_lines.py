"""What the cards of the benchmarks say about time, as lines and tables; nothing here is measured or typed by hand."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

OURS = "saat-tf"
# By these an SAAT step is judged in README; other ways of ours are settings.
STEP_BASELINES = ("saat-tf, weight gradients as well", "PyTorch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A measured way beside its baseline."""

    work: str
    row: Mapping
    """Figures of a card: `median_s`, and where they are known `least_s` and `most_s`, or `p99_s`."""
    baseline: str = ""
    baseline_row: Mapping | None = None
    headline: bool = False
    """README states it too."""

    def cells(self) -> list[str]:
        """Return work, time, baseline and its time, and how many times as long the baseline takes."""
        if self.baseline_row is None:
            return [self.work, time_text(self.row), "", ""]
        times = self.baseline_row["median_s"] / self.row["median_s"]
        return [self.work, time_text(self.row), f"{self.baseline}: {time_text(self.baseline_row)}", number_text(times)]


def number_text(value: float) -> str:
    """Return a number with three digits that count, or all before the point.

    Example:
        >>> number_text(0.12345), number_text(54321.9)
        ('0.123', '54,322')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds_text(seconds: float) -> str:
    """Return a time in s, or in ms below a second.

    Example:
        >>> seconds_text(0.0042), seconds_text(12.34)
        ('4.2 ms', '12.3 s')
    """
    return f"{number_text(seconds)} s" if seconds >= 1 else f"{number_text(1e3 * seconds)} ms"


def time_text(row: Mapping) -> str:
    """Return the median of a row with its spread, where there is one."""
    median = seconds_text(row["median_s"])
    if "least_s" in row:
        return f"{median} ({seconds_text(row['least_s'])} to {seconds_text(row['most_s'])})"
    return f"{median} (99 of 100 within {seconds_text(row['p99_s'])})" if "p99_s" in row else median


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def step_lines(card: Mapping) -> list[Line]:
    """Return a line for each other way to do an SAAT step, beside ours of the same turns."""
    lines = []
    for row in card["rows"]:
        if row["name"] == OURS:
            ours = row
        elif "failed" not in row:
            case = card["cases"][row["case"]]
            work = "SAAT step, {backbone}, {image-size} pixels, batch {batch-size}, T = {num-steps}".format(**case)
            lines.append(
                Line(
                    work=f"{work}: {number_text(ours['images_per_s'])} images/s",
                    row=ours,
                    baseline=row["name"].removeprefix(f"{OURS}, "),
                    baseline_row=row,
                    headline=row["name"].startswith(STEP_BASELINES),
                )
            )
    return lines


def map_lines(card: Mapping) -> list[Line]:
    """Return MAP@5000 beside each form of the usual evaluation."""
    ours, *others = card["rows"]
    work = "MAP@5000 of {queries:,} queries on {database:,} items".format(**card)
    work = f"{work}, {number_text(card['peak_rss_mb'] / 1024)} GB"
    return [Line(work=work, row=ours, baseline=row["name"], baseline_row=row, headline=True) for row in others]


def mainstay_lines(card: Mapping) -> list[Line]:
    """Return mainstay codes at each number of items beside the formula over all of them, where that was timed."""
    lines = []
    for items in dict.fromkeys(row["items"] for row in card["rows"]):
        rows = {row["name"]: row for row in card["rows"] if row["items"] == items}
        ours = rows["DMFL"]
        work = f"mainstay codes of a batch of {card['batch_size']}, {items:,} items"
        formulas = [row for name, row in rows.items() if name.startswith("direct")]
        if not formulas:
            lines.append(Line(work=work, row=ours, headline=True))
        for row in formulas:
            apart = f"formula over all items, {row['name'].split()[-1]}, {row['bits_off']} bits apart"
            exact = row["name"].endswith("float64")
            lines.append(Line(work=work, row=ours, baseline=apart, baseline_row=row, headline=exact))
    return lines


def pair_lines(card: Mapping) -> list[Line]:
    """Return DPH beside DPSH, whose formula looks at each pair, at the most items that both were timed at."""
    lines = []
    for pairs in card["bookkeeping"]:
        same = [row for row in card["bookkeeping"] if row["num_classes"] == pairs["num_classes"]]
        most = max((row["num_items"] for row in same if row["name"] == "DPSH"), default=None)
        if pairs["name"] == "DPSH" and pairs["num_items"] == most:
            ours = next(row for row in same if row["name"] == "DPH" and row["num_items"] == most)
            work = f"DPH and its slope, {most:,} items, {pairs['num_classes']:,} labels"
            lines.append(Line(work=work, row=ours, baseline="DPSH, pair by pair", baseline_row=pairs, headline=True))
    return lines


def attack_lines(card: Mapping) -> list[Line]:
    """Return each attack that stops early beside the plain loop, in time of the processor, and the change of MAP.

    Each was run once: threads that share a core for a while change the clock's time more than the processor's.
    """
    rows = {(row["model"], row["attack"], row["way"]): row for row in card["rows"]}
    about = "{num_steps} steps, {num_queries} queries, {backbone}, {image_size} pixels".format(**card)
    return [
        Line(
            work=f"{attack} attack on {model}, {about}, {way}, MAP {row['map_difference']:+.4f}, core seconds",
            row={"median_s": row["processor_s"]},
            baseline="plain loop",
            baseline_row={"median_s": rows[model, attack, "plain loop"]["processor_s"]},
            headline=attack == "mainstay",
        )
        for (model, attack, way), row in rows.items()
        if way == "folded, early stop"
    ]


def pipeline_lines(card: Mapping) -> list[Line]:
    """Return each way to read images beside the decode limit."""
    lines = []
    for size in dict.fromkeys(row["image_size"] for row in card["rows"]):
        rows = {row["name"]: row for row in card["rows"] if row["image_size"] == size}
        limit = rows.pop("decode limit")
        for name, row in rows.items():
            work = f"{name}, {size} pixels: {number_text(row['images_per_s'])} images/s"
            lines.append(Line(work=work, row=row, baseline="decode limit", baseline_row=limit))
    return lines


def encoder_lines(card: Mapping) -> list[Line]:
    """Return each runtime with a single image beside the faster SavedModel."""
    rows = {
        row["runtime"]: {"median_s": row["p50_ms"] / 1e3, "p99_s": row["p99_ms"] / 1e3}
        for row in card["rows"]
        if row["batch"] == 1
    }
    models = {name: row for name, row in rows.items() if name.startswith("SavedModel")}
    baseline = min(models, key=lambda name: models[name]["median_s"])
    about = "{backbone}, {image_size} pixels, one image".format(**card)
    return [
        Line(work=f"{name}, {about}", row=row, baseline=baseline, baseline_row=models[baseline])
        for name, row in rows.items()
        if name not in models
    ]


def demo_lines(card: Mapping) -> list[Line]:
    """Return what the demo takes."""
    work = f"the demo, {number_text(card['peak_rss_mb'] / 1024)} GB"
    return [Line(work=work, row={"median_s": card["seconds"]})]


# Name of a benchmark: its lines from its card.
LINES: dict[str, Callable[[Mapping], list[Line]]] = {
    "saat_step": step_lines,
    "attack_speed": attack_lines,
    "map": map_lines,
    "mainstay": mainstay_lines,
    "cost": pair_lines,
    "pipeline": pipeline_lines,
    "encoder": encoder_lines,
    "demo": demo_lines,
}


def growth_table(card: Mapping) -> str:
    """Return the time of each part of a step's bookkeeping against the number of items."""
    rows = card["bookkeeping"]
    sizes = sorted({row["num_items"] for row in rows})
    found = {(row["name"], row["num_classes"], row["num_items"]): time_text(row) for row in rows}
    parts = dict.fromkeys(key[:2] for key in found)
    cells = [[name, f"{labels:,}", *(found.get((name, labels, size), "") for size in sizes)] for name, labels in parts]
    return table(["part", "labels", *(f"{size:,} items" for size in sizes)], cells)


def step_growth_table(card: Mapping) -> str:
    """Return time and peak memory of a step against each axis."""
    header = ["axis", "value", "a step", "peak memory"]
    rows = [
        [row["axis"].replace("-", " "), f"{row['value']:,}", time_text(row), f"{row['peak_rss_mb']:,} MB"]
        for row in card["steps"]
    ]
    return table(header, rows)


def step_notes(card: Mapping) -> list[str]:
    """Return what the card of the SAAT step says beside times."""
    notes = []
    if card["losses"]:
        losses = "; ".join(f"{way} {row['loss']:.6f}" for way, row in card["losses"].items())
        notes.append(
            f"Loss of one AlexNet step of two inner steps, without dropout, from the same random start: {losses}."
        )
    for case in dict.fromkeys(row["case"] for row in card["rows"]):
        ours = [row for row in card["rows"] if (row["case"], row["name"]) == (case, OURS)]
        shares = sorted(100 * row["share_of_peak"] for row in ours)
        notes.append(
            f"Our {case} step does {number_text(ours[0]['gflops'])} GFLOP/s by the operations of its convolutions and "
            f"dense layers: {shares[0]:.0f} to {shares[-1]:.0f} % of what a product of two matrices reached before it."
        )
    memory = card["memory"]
    notes.append(
        f"Resident memory after {memory['early_step']} and after {memory['steps']} steps: {memory['early_mb']:,} and "
        f"{memory['last_mb']:,} MB."
    )
    failed = [f"{row['case']}, {row['name']} ({row['failed']})" for row in card["rows"] if "failed" in row]
    return [*notes, *(f"Did not run: {text}." for text in failed)]
