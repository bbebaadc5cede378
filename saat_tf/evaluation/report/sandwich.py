"""Pictures of certificates: MAP between what is proved and what an attack leaves."""

from collections.abc import Iterator, Mapping

from saat_tf.evaluation.card import CERTIFIED, DEFENSES
from saat_tf.evaluation.report.figures import Line, Picture, curves


def certified_rows(card: Mapping) -> list[dict]:
    """Return the rows of certificates, by defense, method and noise, and then by radius."""
    rows = [row for row in card.get("results", ()) if row.get("attack", "").startswith(CERTIFIED)]
    return sorted(rows, key=lambda row: (*_series(row), row["epsilon_255"]))


def sandwich_pictures(card: Mapping, chance: float) -> Iterator[Picture]:
    """Show certified, attacked and clean MAP against the radius, a picture for each series of certificates."""
    groups: dict[tuple, list[dict]] = {}
    for row in certified_rows(card):
        groups.setdefault(_series(row), []).append(row)
    for i, rows in enumerate(groups.values(), 1):
        title, method = DEFENSES[rows[0]["defense"]], rows[0]["attack"]
        radii = [row["epsilon_255"] for row in rows]
        clean = rows[0]["clean_map"]
        lines = [Line("no attack", [0, *radii], [clean, *(row["clean_map"] for row in rows)])]
        lines.append(Line(method, [0, *radii], [clean, *(row["value"] for row in rows)]))
        tried = [row for row in rows if "attacked_map" in row]
        if tried:
            attacked = [clean, *(row["attacked_map"] for row in tried)]
            lines.append(Line("an attack that was tried", [0, *(row["epsilon_255"] for row in tried)], attacked))
        yield Picture(
            f"certified-{i}",
            curves(
                lines, chance=chance, xlabel="allowed change of a pixel, in 1/255", ylabel="MAP, denominator relevant",
                first_is_clean=True,
            ),
            f"{title}, {method}: with a confidence of {rows[-1]['confidence']:g} no attack brings MAP below "
            f"{rows[-1]['value']:.2f} at {radii[-1]:g}/255; the truth lies between that line and the attack's.",
            f"MAP against the radius, {title}: no attack, {method}, under an attack, and chance at {chance:.2f}.",
        )  # fmt: skip


def _series(row: dict) -> tuple:
    return row["defense"], row["attack"], row.get("sigma", 0.0), row.get("draws", 0), row["num_queries"], row["top_k"]
