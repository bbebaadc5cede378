"""Single figures of the page, looked up in the cards or computed from them."""

import dataclasses
import statistics
from collections.abc import Mapping

from benchmarks.markdown import MISSING
from benchmarks.tables.cells import SEEDS, Cell

Cards = Mapping[str, dict]


def row_of(card: dict | None, attack: str, metric: str = "MAP") -> dict | None:
    """Return a card's row, or None where there is no card or no such row."""
    rows = card["results"] if card else ()
    return next((row for row in rows if row["attack"] == attack and row["metric"] == metric), None)


def value_of(card: dict, attack: str) -> float:
    """Return the MAP of a row that a card has to have.

    Raises:
        KeyError: it has no such row.
    """
    row = row_of(card, attack)
    if row is None:
        raise KeyError(f"The card of {card['cell']} has no row of {attack!r}. Delete it and make it again.")
    return row["value"]


def shown(card: dict | None, attack: str, metric: str = "MAP") -> str:
    """Return a figure with its interval, or a dash where there is no card or no such row.

    Example:
        >>> row = {"attack": "hag", "metric": "MAP", "value": 0.25, "interval": [0.2, 0.3]}
        >>> shown({"results": [row]}, "hag"), shown({"results": [row]}, "sdha"), shown(None, "hag")
        ('0.250 (0.200-0.300)', '-', '-')
    """
    row = row_of(card, attack, metric)
    return MISSING if row is None else "{:.3f} ({:.3f}-{:.3f})".format(row["value"], *row["interval"])


def kept_share(robust: float, *, ideal: float, undefended: float) -> float:
    """Return the share of the undefended model's quality that is left under attack, above what the attack aims for.

        (robust - ideal) / (undefended - ideal)

    A model that falls to the attack's ideal keeps 0, one below it less than nothing, and one that an attack leaves as
    good as the undefended model without an attack keeps 1.

    Args:
        robust: MAP of a model under attack.
        ideal: MAP of the codes that the attack aims for, of the same model.
        undefended: MAP of the undefended model without an attack.

    Example:
        >>> round(kept_share(0.18, ideal=0.12, undefended=0.42), 6)
        0.2
    """
    return (robust - ideal) / (undefended - ideal)


def kept_of(cards: Cards, cell: Cell, attack: str) -> float | None:
    """Return the kept share of a cell under an attack, or None where one of its two cards is missing."""
    card, undefended = cards.get(cell.name), cards.get(cell.undefended.name)
    if not card or not undefended:
        return None
    return kept_share(value_of(card, attack), ideal=value_of(card, "ideal"), undefended=value_of(undefended, "none"))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A mean over the seeds of two cells that both have been measured, beside SAAT's mean over the same seeds.

    Args:
        mean: the mean.
        own: SAAT's.
        inside: whether `mean` is within the interval of SAAT's at each seed.
    """

    mean: float
    own: float
    inside: bool


def comparison(
    cards: Cards, defense: str, attack: str, *, own_defense: str, own_attack: str, metric: str = "MAP"
) -> Comparison | None:
    """Compare an attack on one defense with SAAT's own, or return None where no seed has both."""

    def rows(name: str, of: str) -> list[dict | None]:
        return [row_of(cards.get(Cell(defense=name, seed=seed).name), of, metric) for seed in SEEDS]

    pairs = zip(rows(defense, attack), rows(own_defense, own_attack), strict=True)
    found = [(row, own) for row, own in pairs if row and own]
    if not found:
        return None
    mean, own_mean = (statistics.fmean(row["value"] for row in side) for side in zip(*found, strict=True))
    return Comparison(mean, own_mean, all(inside(own, mean) for _, own in found))


def inside(row: dict, value: float) -> bool:
    """Return whether a value lies in the interval of a row."""
    return row["interval"][0] <= value <= row["interval"][1]


def below_chance(cards: Cards, defense: str) -> bool:
    """Return whether a defense's MAP is below chance in the worst case, at any seed."""
    found = [cards[cell.name] for cell in (Cell(defense=defense, seed=seed) for seed in SEEDS) if cell.name in cards]
    return any(row["value"] < card["chance_map"] for card in found if (row := row_of(card, "worst")))


def largest_change(cards: Cards) -> float:
    """Return the largest change of a pixel by any attack, in 1/255."""
    rows = [row for card in cards.values() for row in card["results"]]
    return max(row["largest_change_255"] for row in rows if row.get("largest_change_255") is not None)
