"""Sentences that follow from the cards: where SAAT does not win, and how far the strong recipe comes."""

import itertools
from collections.abc import Iterator, Sequence

from benchmarks.tables.cells import DEFENSES, Cell
from benchmarks.tables.figures import kept_of, row_of, shown, value_of
from benchmarks.tables.sections import ATTACKS, IN_TABLE_II, Cards, seeds_of, trade_off_cells

RIVALS = ("atrdh", "cgat", "strong", "none")
CLEAN_GOAL, KEPT_GOAL = 0.9, 5.0


def attack_losses(cards: Cards) -> Iterator[str]:
    """Yield how SAAT's own attack on the undefended model compares with the others."""
    cells = [cell for cell in seeds_of("none") if cell.name in cards]
    for metric, own, better in (("MAP", "mainstay", min), ("t-MAP", "mainstay-targeted", max)):
        rows = {
            attack: found
            for attack in ATTACKS
            if attack not in ("none", "worst", "ideal")
            and (found := [row for cell in cells if (row := row_of(cards[cell.name], attack, metric))])
        }
        if own not in rows:
            continue
        value = mean_value(rows[own])
        stronger = [
            compared(ATTACKS[attack], found, rows[own])
            for attack, found in rows.items()
            if mean_value(found) != value and better(mean_value(found), value) == mean_value(found)
        ]
        verdict = f"it is beaten by {', '.join(stronger)}." if stronger else "no other here is stronger."
        yield f"As an attack on the undefended model ({metric} {value:.3f} over {seeds_text(rows[own])}) {verdict}"


def defense_losses(cards: Cards) -> Iterator[str]:
    """Yield where another model is better than SAAT as published, over the seeds that both have."""
    for attack, rival in itertools.product(("none", "hag", "sdha", "mainstay", "worst"), RIVALS):
        pairs = [
            [row_of(cards[cell.name], attack) for cell in pair]
            for pair in zip(seeds_of("saat"), seeds_of(rival), strict=True)
            if all(cell.name in cards for cell in pair)
        ]
        if not pairs:
            continue
        own, other = map(list, zip(*pairs, strict=True))
        if mean_value(other) > mean_value(own):
            yield (
                f"As a defence, under {ATTACKS[attack]}: MAP {mean_value(own):.3f} over {seeds_text(own)}, "
                f"{compared(DEFENSES[rival], other, own)}."
            )


def mean_value(rows: Sequence[dict]) -> float:
    """Return the mean of rows' values."""
    return sum(row["value"] for row in rows) / len(rows)


def compared(name: str, rows: Sequence[dict], own: Sequence[dict]) -> str:
    """Name a rival with its mean, and whether that lies inside the interval of each of SAAT's own rows.

    Example:
        >>> own = [{"value": 0.2, "interval": [0.1, 0.3]}]
        >>> compared("CgAT", [{"value": 0.25}], own), compared("CgAT", [{"value": 0.35}], own)
        ('CgAT 0.250 (inside the interval)', 'CgAT 0.350')
    """
    inside = all(_holds(row, mean_value(rows)) for row in own)
    return f"{name} {mean_value(rows):.3f}" + (" (inside the interval)" if inside else "")


def seeds_text(rows: Sequence[dict]) -> str:
    """Return over how many seeds a mean was taken."""
    return "one seed" if len(rows) == 1 else f"{len(rows)} seeds"


def below_chance(cards: Cards) -> Iterator[str]:
    """Yield the models that one of the attacks brings below chance."""
    for defense in IN_TABLE_II:
        cells = [cell for cell in seeds_of(defense) if cell.name in cards]
        lowest = [row["value"] for cell in cells if (row := row_of(cards[cell.name], "worst"))]
        if lowest and min(lowest) < cards[cells[0].name]["chance_map"]:
            yield DEFENSES[defense]


def most_robust(cards: Cards) -> str:
    """Return which point of the trade-off holds most under attack, beside the published epsilon and lambda."""
    made = [cell for cell in trade_off_cells() if cell.name in cards]
    best = max(made, key=lambda cell: value_of(cards[cell.name], "mainstay"))
    robust, clean = (value_of(cards[best.name], attack) for attack in ("mainstay", "none"))
    text = (
        f"Of these (one seed) epsilon {best.epsilon_255:g}/255 and lambda {best.adversarial_weight:g} hold most under "
        f"attack: {robust:.3f}, with {clean:.3f} under none"
    )
    published = cards.get(Cell(defense=best.defense).name)
    if published is None or best.name == published["cell"]:
        return f"{text}."
    robust, clean = (value_of(published, attack) for attack in ("mainstay", "none"))
    return f"{text}, where the published 8/255 and 1 have {robust:.3f} and {clean:.3f}."


def strong_verdict(cards: Cards) -> list[list[str]]:
    """Return the rows of goal, what came out of each seed, and whether it is reached; none where cards are missing."""
    rows = []
    for strong, plain in zip(seeds_of("strong"), seeds_of("saat"), strict=True):
        if not {strong.name, plain.name, strong.undefended.name} <= set(cards):
            continue
        card, chance = cards[strong.name], cards[strong.name]["chance_map"]
        worst, clean = (row_of(card, attack) for attack in ("worst", "none"))
        share = clean["value"] / row_of(cards[strong.undefended.name], "none")["value"]
        kept, published = (kept_of(cards, cell, "mainstay") for cell in (strong, plain))
        rows += [
            [str(strong.seed), "worst of all attacks above chance", f"{shown(card, 'worst')} against {chance:.3f}",
             _reached(worst["value"] > chance) + ("; the interval holds chance" if _holds(worst, chance) else "")],
            [str(strong.seed), f"kept share at least {KEPT_GOAL:g} times the published recipe's",
             f"{kept:.3f} against {published:.3f}", _reached(kept > 0 and kept >= KEPT_GOAL * published)],
            [str(strong.seed), f"clean MAP at least {CLEAN_GOAL:g} of the undefended model's", f"{share:.2f}",
             _reached(share >= CLEAN_GOAL)],
        ]  # fmt: skip
    return rows


def _holds(row: dict, value: float) -> bool:
    """Tell whether a value lies in the interval of a row."""
    return row["interval"][0] <= value <= row["interval"][1]


def _reached(found: bool) -> str:
    return "reached" if found else "not reached"
