"""Make the cells that are not made yet, and print the tables; see `InnerBenchmarkOptions`."""

import dataclasses
import fnmatch
import sys
from pathlib import Path
from typing import Any

import tyro

from benchmarks.cards import REMEDY, wrong_entries
from benchmarks.inner.cells import KINDS, SCALES_OF, DataName, Scale, data_of, recipe_of
from benchmarks.inner.page import UNDEFENDED, draw, markdown
from benchmarks.inner.run_cell import ATTACK_STEPS, measure, measure_undefended
from saat_tf.command_line import ExitCode
from saat_tf.data import DataError
from saat_tf.evaluation import machine, versions
from saat_tf.files import write_json
from saat_tf.metrics import chance_map
from saat_tf.strict_json import read_object
from trainers.console.output import quiet_libraries, say


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnerBenchmarkOptions:
    """Train SAAT by each inner attack from one undefended model a data set, and attack held-out queries on the way.

    Command: python -m benchmarks.inner --data-dir ../shared/data/corel5k
    A cell is one training, by name such as "corel5k/n-fgsm". Stopped and called again, it resumes with the next cell.
    No query of a test is looked at. Nothing else should run on the machine: what is compared is seconds.
    """

    data_dir: Path | None = None
    """Corel-5K in the list format; without it, drawn scenes alone."""
    out: Path = Path("docs")
    """Where figures (OUT/results/inner.json) and picture (OUT/pictures/inner.png) go."""
    runs_dir: Path = Path("runs/inner")
    """Where undefended models and attacked codes go."""
    only: tuple[str, ...] = ("*",)
    """Make these cells alone, by name or pattern, such as "scenes/*" or "*/n-fgsm"."""
    seed: int = 0
    """Seed of the models and of the training."""


def main(
    options: InnerBenchmarkOptions,
    scales: dict[DataName, Scale] = SCALES_OF,
    attack_steps: int = ATTACK_STEPS,
) -> int:
    """Make what is missing, and print the tables; return the exit code: 0, or 2 where options or data are refused."""
    quiet_libraries()
    file = options.out / "results/inner.json"
    with ExitCode() as outcome:
        names = chosen_cells(options)
        card = read_card(file, scales, options.seed, attack_steps)
        for i, (data_name, kind) in enumerate(names):
            if kind in card["cells"].get(data_name, {}):
                continue
            say(f"[{i + 1}/{len(names)}] {data_name}/{kind}: {KINDS.get(kind, {})}")
            add_cell(card, data_name, kind, options, scales[data_name])
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {**card, "versions": versions(), "machine": machine()})
    if outcome.code:
        return outcome.code
    for data_name, cells in card["cells"].items():
        print(f"\n{data_name}, chance {card['chance_map'][data_name]:.3f}:\n\n{markdown(cells)}")
    draw(card["cells"], options.out / "pictures/inner.png")
    return 0


def chosen_cells(options: InnerBenchmarkOptions) -> list[tuple[DataName, str]]:
    """Return data set and kind of the cells that are asked for, in their order.

    Raises:
        DataError: a pattern matches none.
    """
    data_names = [name for name in SCALES_OF if name != "corel5k" or options.data_dir is not None]
    cells = {f"{name}/{kind}": (name, kind) for name in data_names for kind in (UNDEFENDED, *KINDS)}
    for pattern in options.only:
        if not fnmatch.filter(cells, pattern):
            hint = "" if options.data_dir else " Corel-5K needs --data-dir."
            raise DataError(f"--only must match a cell of {', '.join(cells)}. Received: {pattern!r}.{hint}")
    return [cell for name, cell in cells.items() if any(fnmatch.fnmatch(name, pattern) for pattern in options.only)]


def read_card(file: Path, scales: dict[DataName, Scale], seed: int, attack_steps: int) -> dict:
    """Return what has been measured so far.

    Raises:
        DataError: the file is damaged, or contains figures of other settings.
    """
    scale = {name: dataclasses.asdict(scale) for name, scale in scales.items()}
    setting = {"scale": scale, "seed": seed, "attack_steps": attack_steps}
    if not file.is_file():
        return {"setting": setting, "chance_map": {}, "cells": {}}
    card = read_object(file, {"setting": dict, "chance_map": dict, "cells": dict}, remedy=REMEDY)
    for data_name, cells in card["cells"].items():
        if wrong := wrong_entries(cells, {"options": dict, "clean": int | float, "worst": int | float}):
            raise DataError(f"{file}: {data_name}: {', '.join(wrong)} lack figures. {REMEDY}")
    if card["setting"] != setting:
        raise DataError(f"{file}: figures of other settings. Choose another --out, or move it.")
    for data_name, cells in card["cells"].items():
        changed = [kind for kind, cell in cells.items() if cell["options"] != KINDS.get(kind, {})]
        if changed:
            raise DataError(f"{file}: {data_name}/{', '.join(changed)} had other options. Remove them from the file.")
    return card


def add_cell(card: dict, data_name: DataName, kind: str, options: InnerBenchmarkOptions, scale: Scale) -> None:
    """Measure one cell, and put it into the card."""
    about: dict[str, Any] = {"data_dir": options.data_dir, "seed": options.seed}
    data = data_of(data_name, scale, **about)
    undefended = recipe_of(data_name, None, scale, **about)
    size = "-".join(str(value) for value in dataclasses.astuple(scale))
    folder, steps = options.runs_dir / f"{data_name}-{size}-seed{options.seed}", card["setting"]["attack_steps"]
    if kind == UNDEFENDED:
        cell = measure_undefended(undefended, data, folder, attack_steps=steps)
    else:
        recipe = recipe_of(data_name, kind, scale, **about)
        cell = measure(recipe, undefended, data, folder, attack_steps=steps)
    card["chance_map"][data_name] = chance_map(data.test.labels, data.database.labels)
    cells = {**card["cells"].get(data_name, {}), kind: {"options": KINDS.get(kind, {}), **cell}}
    card["cells"][data_name] = {name: cells[name] for name in (UNDEFENDED, *KINDS) if name in cells}


if __name__ == "__main__":
    sys.exit(main(tyro.cli(InnerBenchmarkOptions)))
