"""The tables of the page, each from the cards that there are."""

from collections.abc import Mapping, Sequence

from benchmarks.tables.cells import BITS, DEFENSES, OTHER_BITS, SEEDS, TRADE_OFF, Cell
from benchmarks.tables.figures import MISSING, kept_of, number, shown, table

Cards = Mapping[str, dict]
# Tables I and II of arXiv 2310.14637, MS-COCO at 32 bits, in percent there.
PAPER_NON_TARGETED = {"none": 0.5741, "hag": 0.1397, "sdha": 0.1238, "mainstay": 0.1121}
PAPER_TARGETED = {"p2p": 0.5274, "dhta": 0.5338, "pros-gan": 0.3330, "tha": 0.5288, "mainstay-targeted": 0.5800}
PAPER_DEFENSES = {
    "atrdh": {"none": 0.5089, "hag": 0.2678, "sdha": 0.2717, "mainstay": 0.2324},
    "saat": {"none": 0.4941, "hag": 0.3401, "sdha": 0.3507, "mainstay": 0.3087},
}
ATTACKS = {
    "none": "no attack", "hag": "HAG", "sdha": "SDHA", "mainstay": "mainstay (SAAT's)", "auto": "auto",
    "center": "centre (CgAT's)", "square": "Square", "worst": "worst of all, for each query", "ideal": "ideal attack",
    "p2p": "P2P", "dhta": "DHTA", "pros-gan": "ProS-GAN", "tha": "THA", "mainstay-targeted": "mainstay (SAAT's)",
}  # fmt: skip
IN_TABLE_II = ("none", "atrdh", "cgat", "saat", "strong")


def seeds_of(defense: str) -> list[Cell]:
    """Return the cells of a defence at 32 bits, one a seed."""
    return [Cell(defense=defense, seed=seed) for seed in SEEDS]


def chance_of(cards: Cards) -> str:
    """Return the chance of all cells, which score the same queries."""
    return number(next(iter(cards.values()))["chance_map"])


def table_one(cards: Cards) -> str:
    """Return Table I: attacks on the undefended model."""
    header = ["attack", "metric", *(f"seed {seed}" for seed in SEEDS), "the paper's, MS-COCO"]
    rows = []
    for metric, paper, more in (
        ("MAP", PAPER_NON_TARGETED, ("auto", "center", "square", "worst", "ideal")),
        ("t-MAP", PAPER_TARGETED, ()),
    ):
        names = [*(["none"] if metric == "t-MAP" else []), *paper, *more]
        for attack in names:
            found = [shown(cards.get(cell.name), attack, metric) for cell in seeds_of("none")]
            rows.append([ATTACKS[attack], metric, *found, number(paper.get(attack))])
        if metric == "MAP":
            rows.append(["chance", metric, *[chance_of(cards)] * len(SEEDS), MISSING])
    return table(header, rows)


def table_two(cards: Cards) -> str:
    """Return Table II: defences under the paper's non-targeted attacks."""
    columns = ("none", "hag", "sdha", "mainstay", "ideal")
    rows = defense_rows(cards, columns, kept_under="mainstay")
    for defense, values in PAPER_DEFENSES.items():
        paper = [number(values.get(attack)) for attack in columns]
        rows.append([f"{DEFENSES[defense]}, the paper's on MS-COCO", "", *paper, MISSING])
    return table(["model", "seed", *(ATTACKS[attack] for attack in columns), "kept share, mainstay"], rows)


def suite_table(cards: Cards) -> str:
    """Return the defences under the standard suite, and under the worst of all attacks."""
    columns = ("auto", "mainstay", "center", "square", "worst")
    rows = defense_rows(cards, columns, kept_under="worst")
    return table(["model", "seed", *(ATTACKS[attack] for attack in columns), "kept share, worst"], rows)


def defense_rows(cards: Cards, columns: Sequence[str], *, kept_under: str) -> list[list[str]]:
    """Return a row for each defence and seed, its kept share under one attack at the end, and then one of chance."""
    rows = [
        [
            DEFENSES[cell.defense], str(cell.seed), *(shown(cards.get(cell.name), attack) for attack in columns),
            number(kept_of(cards, cell, kept_under), 2),
        ]
        for defense in IN_TABLE_II for cell in seeds_of(defense)
    ]  # fmt: skip
    chances = [MISSING if attack == "ideal" else chance_of(cards) for attack in columns]
    return [*rows, ["chance", "", *chances, MISSING]]


def bits_table(cards: Cards) -> str:
    """Return clean and attacked MAP by the number of bits, of the first seed."""
    header = ["bits", *(f"{name}, {what}" for name in ("undefended", "SAAT") for what in ("no attack", "mainstay"))]
    rows = []
    for bits in sorted((BITS, *OTHER_BITS)):
        cells = [Cell(defense=defense, bits=bits) for defense in ("none", "saat")]
        found = [shown(cards.get(cell.name), attack) for cell in cells for attack in ("none", "mainstay")]
        rows.append([str(bits), *found, number(kept_of(cards, cells[1], "mainstay"), 2)])
    rows.append(["chance", *[chance_of(cards)] * 4, MISSING])
    return table([*header, "kept share of SAAT"], rows)


def trade_off_cells() -> list[Cell]:
    """Return the cells of the trade-off, sorted by epsilon and then lambda."""
    return [
        Cell(defense="saat-inference", epsilon_255=epsilon, adversarial_weight=weight)
        for epsilon, weight in sorted(TRADE_OFF)
    ]


def trade_off_table(cards: Cards) -> str:
    """Return clean and robust MAP by the epsilon and lambda of training."""
    header = ["epsilon of training", "lambda", "no attack", "mainstay, 8/255", "ideal attack", "kept share"]
    rows = [
        [
            f"{cell.epsilon_255:g}/255", f"{cell.adversarial_weight:g}",
            *(shown(cards.get(cell.name), attack) for attack in ("none", "mainstay", "ideal")),
            number(kept_of(cards, cell, "mainstay"), 2),
        ]
        for cell in trade_off_cells()
    ]  # fmt: skip
    undefended = cards.get(Cell(defense="none").name)
    rows.insert(0, ["not defended", "", *(shown(undefended, attack) for attack in ("none", "mainstay", "ideal")), ""])
    return table(header, rows)


def many_classes_table(results: list[dict]) -> str:
    """Return what each number of classes and of items costs."""
    header = ["classes", "items", "label sets", "codes of a batch, ms", "an epoch's bookkeeping, s", "bank, MB"]
    counts, costs = ("num_classes", "num_items", "num_label_sets"), ("mainstay_ms", "epoch_seconds", "bank_mb")
    return table(header, [[*(f"{row[n]:,}" for n in counts), *(f"{row[n]:.3g}" for n in costs)] for row in results])


def largest_change(cards: Cards) -> float:
    """Return the largest change of a pixel by any attack, in 1/255."""
    return max(row["largest_change_255"] for card in cards.values() for row in card["results"]
               if row.get("largest_change_255") is not None)  # fmt: skip
