"""Robust radii in the card of a run, and the table of them."""

from collections.abc import Sequence

import rich.table

from trainers.console.output import DEFENSES


def with_radius(card: dict, entry: dict) -> dict:
    """Return the card with an entry of the robust radius in the place of one by the same attacks on the same model."""
    same = ("defense", "attacks", "num_steps", "restarts", "num_queries")
    others = [one for one in card.get("robust_radius", []) if any(one[name] != entry[name] for name in same)]
    return {**card, "robust_radius": [*others, entry]}


def radius_table(card: dict, defenses: Sequence[str]) -> rich.table.Table:
    """Return the table of the robust radii of the models."""
    table = rich.table.Table(
        title="Robust radius",
        caption="The largest radius at which the worst case over the attacks is above chance.",
    )
    table.add_column("model")
    table.add_column("above chance at", justify="right")
    table.add_column("not above chance at", justify="right")
    for entry in card["robust_radius"]:
        if entry["defense"] in defenses:
            high = entry["at_chance_255"]
            table.add_row(
                DEFENSES[entry["defense"]], f"{entry['above_chance_255']}/255", "-" if high is None else f"{high}/255"
            )
    return table
