"""The page of the results, docs/results.md, written from the cards alone."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.cards import REMEDY
from benchmarks.markdown import TEMPLATES
from benchmarks.tables.cells import BITS, OTHER_BITS, SCALES, SEEDS, Cell, all_cells, trade_off_cells
from benchmarks.tables.curve import draw_trade_off
from benchmarks.tables.figures import (
    Cards,
    below_chance,
    comparison,
    inside,
    kept_of,
    largest_change,
    row_of,
    shown,
    value_of,
)
from saat_tf.files import write_whole
from saat_tf.strict_json import read_object

FUNCTIONS = (Cell, below_chance, comparison, inside, kept_of, largest_change, row_of, shown, value_of)


def write_page(cards: Cards, out: Path) -> Path:
    """Write OUT/results.md and its picture; OUT/results/many_classes.json is shown too where it is.

    Args:
        cards: name of the cell -> its card, of the cells that there are; all of one scale.
        out: the folder.

    Returns:
        The page.

    Raises:
        ValueError: there is no card, or many_classes.json is damaged.
    """
    if not cards:
        raise ValueError("The page needs at least one card. Received none: make a cell first.")
    if any(cell.name in cards for cell in trade_off_cells()):
        draw_trade_off(cards, out / "pictures/trade_off.png")
    file, costs = out / "results.md", out / "results/many_classes.json"
    classes = read_object(costs, {}, remedy=REMEDY) if costs.is_file() else None
    write_whole(file, lambda temporary: temporary.write_text(page(cards, classes), encoding="utf-8"))
    return file


def page(cards: Cards, classes: Mapping | None = None) -> str:
    """Return the page's text from the cells' cards and, where there is one, the card of many classes."""
    trade_off = [cell for cell in trade_off_cells() if cell.name in cards]
    judged = {seed: {Cell(defense=name, seed=seed).name for name in ("none", "saat", "strong")} for seed in SEEDS}
    minutes = {name: sum(card["seconds"].values()) / 60 for name, card in cards.items()}
    return TEMPLATES.get_template("tables/results.md.j2").render(
        {function.__name__: function for function in FUNCTIONS},
        cards=cards, card=next(iter(cards.values())), num_cells=len(all_cells()), minutes=minutes,
        longest=max(minutes, key=minutes.__getitem__), seeds=SEEDS,
        complete_seeds=[seed for seed, names in judged.items() if names <= cards.keys()],
        code_lengths=sorted((BITS, *OTHER_BITS)),
        trade_off_cells=trade_off_cells(), classes=classes, full=SCALES["full"],
        most_robust=max(trade_off, key=lambda cell: value_of(cards[cell.name], "mainstay"), default=None),
    )  # fmt: skip
