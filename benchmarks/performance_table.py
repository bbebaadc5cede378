"""State what was measured: `python -m benchmarks.performance_table`.

It reads docs/results/*.json, which the benchmarks write, and replaces what stands between the two marks of README and
of docs/performance.md. A benchmark that has not been run leaves its lines out.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.performance_lines import LINES, Line, growth_table, step_growth_table, step_notes, table
from benchmarks.timing import ROOT
from saat_tf.files import write_whole

BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"
HEADER = ["what", "median (least to most)", "baseline", "times as long", "command"]
PICTURES = {
    "cost_bookkeeping.png": "Time of a batch's bank update, mainstay codes and losses against the number of items",
    "cost_step.png": "Time and peak memory of a step against batch, pixels, bits, items and replicas",
}


def read_cards(folder: Path) -> dict[str, dict]:
    """Return the cards that there are, by name of the benchmark."""
    files = {name: folder / f"{name}.json" for name in LINES}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def figures(cards: Mapping[str, Mapping], *, headlines: bool) -> str:
    """Return the table of all lines, or of the headlines, and the machines that they were measured on."""
    lines: dict[str, list[Line]] = {name: LINES[name](card) for name, card in cards.items()}
    chosen = {name: [line for line in own if line.headline or not headlines] for name, own in lines.items()}
    rows = [[*line.cells(), f"`benchmarks.{name}`"] for name, own in chosen.items() for line in own]
    if not rows:
        return "No figures yet: `make bench` measures them."
    used = {name: card for name, card in cards.items() if chosen[name]}
    return "\n\n".join([table(HEADER, rows), machines(used)])


def machines(cards: Mapping[str, Mapping]) -> str:
    """Say which commands ran on which machine."""
    commands: dict[str, list[str]] = {}
    for name, card in cards.items():
        commands.setdefault(machine_text(card), []).append(f"`python -m benchmarks.{name}`")
    return "\n".join(f"- {machine}: {', '.join(own)}" for machine, own in commands.items())


def machine_text(card: Mapping) -> str:
    """Name the machine of a card."""
    machine = card["machine"]
    extras = ", ".join(machine.get("instructions", ()))
    text = f"{machine['cores']} cores, {machine.get('processor', machine['architecture'])}"
    return f"{text}{f' ({extras})' if extras else ''}, TensorFlow {card['versions']['tensorflow']}"


def details(cards: Mapping[str, Mapping], pictures: Path) -> str:
    """Return all figures, for docs/performance.md; a picture is shown where it is."""
    parts = [figures(cards, headlines=False)]
    if "saat_step" in cards:
        parts.append("\n".join(f"- {note}" for note in step_notes(cards["saat_step"])))
    if "cost" in cards:
        base = ", ".join(f"{name} {value}" for name, value in cards["cost"]["base"].items())
        parts += [growth_table(cards["cost"]), f"A step, where it differs from {base}:"]
        parts += [step_growth_table(cards["cost"])]
        parts += [f"![{text}](pictures/{name})" for name, text in PICTURES.items() if (pictures / name).is_file()]
    return "\n\n".join(parts)


def with_block(text: str, block: str, name: str) -> str:
    """Return a page's text with what stands between its marks replaced.

    Raises:
        ValueError: the page has not each mark once, in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in old + after or END in before + after:
        raise ValueError(
            f"{name} must have {BEGIN} once and after it {END} once. Received: {text.count(BEGIN)} and "
            f"{text.count(END)} of them. Put both, each on a line of its own, where the figures belong."
        )
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def pages(root: Path) -> dict[Path, str]:
    """Return what each page should be."""
    cards = read_cards(root / "docs/results")
    blocks = {
        root / "README.md": figures(cards, headlines=True),
        root / "docs/performance.md": details(cards, root / "docs/pictures"),
    }
    return {page: with_block(page.read_text(encoding="utf-8"), block, page.name) for page, block in blocks.items()}


def main(root: Path = ROOT) -> None:
    """Rewrite what has changed."""
    for page, text in pages(root).items():
        if text != page.read_text(encoding="utf-8"):
            write_whole(page, lambda temporary, text=text: temporary.write_text(text, encoding="utf-8"))
            print(f"{page.relative_to(root)}: new figures")


if __name__ == "__main__":
    main()
