"""Timing by turns, first calls left out, as medians with their spread and the machine's name."""

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from saat_tf.evaluation import machine, versions
from saat_tf.files import write_json

ROOT = Path(__file__).parents[1]
RESULTS, QUICK_RESULTS, PICTURES = ROOT / "docs/results", ROOT / "runs/bench-quick", ROOT / "docs/pictures"
# What makes a processor fast or slow at this work.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclasses.dataclass(frozen=True)
class Timing:
    """The seconds of each counted call."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return statistics.median(self.seconds)

    def row(self, name: str, *, baseline: "Timing | None" = None, **facts: Any) -> dict:
        """Return the figures of a way as a card has them; `ratio` says how many times as long `baseline` takes."""
        ratio = {} if baseline is None else {"ratio": figure(baseline.median / self.median)}
        spread = {"least_s": figure(min(self.seconds)), "most_s": figure(max(self.seconds))}
        return {
            "name": name,
            "median_s": figure(self.median),
            **spread,
            "repeats": len(self.seconds),
            **ratio,
            **facts,
        }


def in_turns(ways: Mapping[str, Callable[[], object]], *, repeats: int, warm_up: int = 1) -> dict[str, Timing]:
    """Call each way in turn, so that what else the machine does falls on all; the `warm_up` first turns do not count.

    Example:
        >>> timings = in_turns({"a": list, "b": dict}, repeats=3)
        >>> len(timings["a"].seconds)
        3
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(warm_up + repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(taken[warm_up:])) for name, taken in seconds.items()}


def figure(value: float) -> float:
    """Round to four digits that count.

    Example:
        >>> figure(0.000123456)
        0.0001235
    """
    return float(f"{value:.4g}")


def setting() -> dict:
    """Return versions and machine, as a card has them."""
    return {"versions": versions(), "machine": {**machine(), **processor()}}


def processor() -> dict:
    """Return the processor's name and which of `INSTRUCTIONS` it has, where the system tells (Linux)."""
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        return {"processor": platform.processor() or platform.machine(), "instructions": []}
    text = file.read_text(encoding="utf-8")
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    lines = {name.strip(): value.strip() for name, _, value in pairs}
    flags = set(lines.get("flags", "").split())
    return {
        "processor": lines.get("model name", platform.machine()),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
    }


def write_result(name: str, card: dict, *, quick: bool) -> Path:
    """Write what was measured, with versions and machine, and return the file.

    A full run replaces docs/results/NAME.json; a quick one goes to runs/bench-quick and leaves what is stated alone.
    """
    folder = QUICK_RESULTS if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.{name}" + (" --quick" if quick else "")
    write_json(folder / f"{name}.json", {"command": command, **card, **setting()})
    return folder / f"{name}.json"


def show(rows: list[dict]) -> None:
    """Print a line a way: median, least and most seconds, ratio, and what else is known of it."""
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        facts = {name: value for name, value in row.items() if name not in Timing((0.0,)).row("") and name != "ratio"}
        ratio = f"  ratio {row['ratio']:.4g}" if "ratio" in row else ""
        print(f"{row['name']:{width}} {row['median_s']:9.4g} s ({row['least_s']:.4g} to {row['most_s']:.4g}){ratio}  "
              + ", ".join(f"{name} {value}" for name, value in facts.items()))  # fmt: skip


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
