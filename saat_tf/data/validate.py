"""Validate a data set in the list format: `python -m saat_tf.data.validate DIR [--strict] [--no-decode]`.

A program inside the library, beside the format that it explains; what it finds comes from `inspection`.
"""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import rich.console
import rich.markup
import rich.progress
import rich.table
import tyro

from saat_tf.command_line import ExitCode
from saat_tf.data.split_rules import ERROR, SHOWN_PLACES, WARNING, Fault
from saat_tf.data.validation.inspection import NO_LABEL_RULE, Inspection, inspect_folder

CLEAN, WARNINGS, ERRORS = 0, 1, 2
STYLES = {ERROR: "bold red", WARNING: "yellow"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validate:
    """Say what is in a data set and everything that is wrong with it.

    Exit code: 0 when it can be used, 1 for warnings under --strict, 2 for errors.
    """

    data_dir: Annotated[Path, tyro.conf.Positional]
    """Folder in the list format: <split>_img.txt and <split>_label.txt for train, database and test, plain or .gz.
    Several data sets may share it, each with its name before its lists."""
    strict: bool = False
    """Exit with 1 where there are warnings."""
    decode: bool = True
    """Look for the image files and decode each of them; --no-decode reads the lists alone."""
    every_place: bool = False
    """Show every place of a fault, and not the first 5."""


def main(options: Validate, console: rich.console.Console) -> int:
    """Inspect the folder, print what is found, and return the exit code."""
    with ExitCode() as outcome:
        if not options.data_dir.is_dir():
            raise ValueError(f"{options.data_dir} is no folder.")
        return validate(options, console)
    return outcome.code


def validate(options: Validate, console: rich.console.Console) -> int:
    """Do what `main` says, of a folder that exists."""

    def track(items: Iterable, total: int, description: str) -> Iterable:
        return rich.progress.track(items, description, total, console=console, transient=True)

    inspections, faults = inspect_folder(options.data_dir, decode=options.decode, track=track)
    for inspection in inspections:
        _show(inspection, options, console)
    console.rule()
    _show_faults(faults, options, console)
    levels = [fault.level for found in (faults, *(inspection.faults for inspection in inspections)) for fault in found]
    console.print(NO_LABEL_RULE, highlight=False)
    console.print(f"{levels.count(ERROR)} errors, {levels.count(WARNING)} warnings.", style="bold", highlight=False)
    if ERROR in levels:
        return ERRORS
    return WARNINGS if options.strict and WARNING in levels else CLEAN


def _show(inspection: Inspection, options: Validate, console: rich.console.Console) -> None:
    name = inspection.name.rstrip("_")
    console.rule(rich.markup.escape(f"{name} in {options.data_dir}" if name else str(options.data_dir)))
    console.print(_summary(inspection))
    console.print(_classes(inspection))
    chance = "not known without labels of queries and database"
    if inspection.chance_map is not None:
        chance = f"{inspection.chance_map:.4f}"
    console.print(f"Chance MAP: {chance}", highlight=False)
    _show_faults(inspection.faults, options, console)


def _summary(inspection: Inspection) -> rich.table.Table:
    table = rich.table.Table(title="Splits")
    table.add_column("split")
    for column in ("rows", "distinct images", "label columns", "labels an image", "fewest", "most", "without a label"):
        table.add_column(column, justify="right")
    for split in inspection.splits:
        counts = split.labels[split.is_read].sum(axis=1)
        spread = [f"{counts.mean():.2f}", str(counts.min()), str(counts.max())] if counts.size else ["-"] * 3
        table.add_row(
            split.name,
            f"{len(split.images):,}",
            f"{inspection.distinct[split.name]:,}",
            str(split.labels.shape[1]),
            *spread,
            f"{(counts == 0).sum():,}",
        )
    return table


def _classes(inspection: Inspection) -> rich.table.Table:
    table = rich.table.Table(title="Images of each class")
    table.add_column("class")
    for split in inspection.splits:
        table.add_column(split.name, justify="right")
    counts = [split.labels.sum(axis=0, dtype=int) for split in inspection.splits]
    for column, name in enumerate(inspection.class_names):
        cells = (f"{count[column]:,}" if column < len(count) else "-" for count in counts)
        table.add_row(rich.markup.escape(name), *cells)
    return table


def _show_faults(faults: Iterable[Fault], options: Validate, console: rich.console.Console) -> None:
    for fault in faults:
        console.print(f"{fault.level}: ", style=STYLES[fault.level], end="")
        console.print(fault.text, markup=False, highlight=False, soft_wrap=True)
        shown = fault.places if options.every_place else fault.places[:SHOWN_PLACES]
        for place in shown:
            console.print(f"  {place}", markup=False, highlight=False, soft_wrap=True)
        if len(shown) < len(fault.places):
            console.print(f"  and {len(fault.places) - len(shown):,} more (--every-place)", highlight=False)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Validate), rich.console.Console()))
