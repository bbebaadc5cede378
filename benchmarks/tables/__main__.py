"""Make the cells of the tables that are not made yet, one process for a few of them, and write the page."""

import concurrent.futures
import dataclasses
import fnmatch
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.tables.cells import SCALES, Cell, all_cells, estimated_core_seconds
from benchmarks.tables.page import write_page
from benchmarks.tables.run_cell import make_card, read_card, setting_of
from saat_tf.command_line import ExitCode
from saat_tf.data import DataError
from trainers.console.output import say

# TensorFlow keeps memory of every graph that it traced; a process of its own gives it back.
CELLS_PER_PROCESS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class TablesOptions:
    """Make the paper's tables on Corel-5K at a reduced scale, and write OUT/results.md from the cards.

    Command: python -m benchmarks.tables --data-dir ../shared/data/corel5k
    A cell is one model with the attacks on it. Stopped and called again, it resumes with the next cell, and inside a
    cell with the next attack.
    """

    data_dir: Path
    """Corel-5K in the list format."""
    scale: Literal["small", "full"] = "small"
    """small: what the page in docs shows; full: all training images and queries at 64 pixels, days on 2 cores."""
    out: Path = Path("docs")
    """Where cards (OUT/results/tables), page and picture go; another folder for another scale."""
    runs_dir: Path = Path("runs/tables")
    """Where models and attacked codes go."""
    only: tuple[str, ...] = ("*",)
    """Make these cells alone, by name or pattern, such as "saat-32bits-*"; the page is made from all that there are."""


def main(options: TablesOptions) -> int:
    """Make what is missing; return the exit code: 0, or 2 where options or data are refused."""
    scale = SCALES[options.scale]
    with ExitCode() as outcome:
        cells = chosen_cells(options.only)
        todo = missing_cells(cells, options)
        (options.out / "results/tables").mkdir(parents=True, exist_ok=True)
        run_cells(todo, options)
        cards = {cell.name: read_card(card_file(options, cell), setting_of(cell, scale)) for cell in all_cells()}
    if outcome.code:
        return outcome.code
    page = write_page({name: card for name, card in cards.items() if card}, options.out)
    say(f"{sum(card is not None for card in cards.values())} of {len(cards)} cells: {page}")
    return 0


def chosen_cells(patterns: tuple[str, ...]) -> list[Cell]:
    """Return the cells whose names match one of the patterns.

    Raises:
        DataError: a pattern matches none.
    """
    cells = all_cells()
    for pattern in patterns:
        if not fnmatch.filter([cell.name for cell in cells], pattern):
            names = ", ".join(cell.name for cell in cells)
            raise DataError(f"--only must match a cell of {names}. Received: {pattern!r}.")
    return [cell for cell in cells if any(fnmatch.fnmatch(cell.name, pattern) for pattern in patterns)]


def card_file(options: TablesOptions, cell: Cell) -> Path:
    """Return where a cell's card stands."""
    return options.out / "results/tables" / f"{cell.name}.json"


def missing_cells(cells: list[Cell], options: TablesOptions) -> list[Cell]:
    """Return the cells that have no whole card of these settings yet."""
    scale = SCALES[options.scale]
    return [cell for cell in cells if read_card(card_file(options, cell), setting_of(cell, scale)) is None]


def run_cells(cells: list[Cell], options: TablesOptions) -> None:
    """Make cards, telling before each how long it and the rest should take."""
    scale = SCALES[options.scale]
    costs = [estimated_core_seconds(cell, scale) for cell in cells]
    say(f"{len(cells)} cells to make, by estimate {sum(costs) / 60:.0f} core minutes")
    started = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(
        max_workers=1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=CELLS_PER_PROCESS
    ) as pool:
        for i, cell in enumerate(cells):
            passed, done = time.perf_counter() - started, sum(costs[:i])
            pace = passed / done if done else 0.5  # wall seconds a core second: two cores to begin with
            left = f"{pace * sum(costs[i:]) / 60:.0f} minutes left"
            say(f"[{i + 1}/{len(cells)}] {cell.name}: about {pace * costs[i] / 60:.1f} minutes, {left}")
            runs_dir = options.runs_dir / options.scale
            pool.submit(make_card, cell, scale, options.data_dir, runs_dir, card_file(options, cell)).result()


if __name__ == "__main__":
    sys.exit(main(tyro.cli(TablesOptions)))
