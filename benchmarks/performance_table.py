"""State what was measured: `python -m benchmarks.performance_table`.

It reads docs/results/*.json, which the benchmarks write, and replaces what stands between the two marks of README and
of docs/performance.md. A benchmark that has not been run leaves its lines out.
"""

import collections
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.cards import REMEDY
from benchmarks.markdown import TEMPLATES
from benchmarks.performance_lines import LINES, Line
from benchmarks.timing import ROOT
from saat_tf.command_line import ExitCode
from saat_tf.files import write_text
from saat_tf.strict_json import read_object
from saat_tf.text_lists import DataError

BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"


class Machine(NamedTuple):
    """What a page says of the machine of a card."""

    cores: int
    processor: str
    instructions: tuple[str, ...]
    tensorflow: str


def read_cards(folder: Path) -> dict[str, dict]:
    """Return the cards that there are, by name of the benchmark.

    Raises:
        DataError: one is damaged.
    """
    files = {name: folder / f"{name}.json" for name in LINES}
    fields = {"machine": dict, "versions": dict}
    return {name: read_object(file, fields, remedy=REMEDY) for name, file in files.items() if file.is_file()}


def headlines(cards: Mapping[str, Mapping]) -> str:
    """Return the table of the headlines, for README: one line a benchmark, and the machines."""
    return _rendered("performance_headlines.md.j2", cards, lambda line: line.headline)


def details(cards: Mapping[str, Mapping], pictures: Path) -> str:
    """Return all figures, for docs/performance.md; a picture is shown where it is."""
    growth: dict[tuple[str, int], dict[int, Mapping]] = collections.defaultdict(dict)
    for row in cards.get("cost", {}).get("bookkeeping", ()):
        growth[row["name"], row["num_classes"]][row["num_items"]] = row
    shown = [file.name for file in pictures.glob("*.png")]
    return _rendered("performance_details.md.j2", cards, lambda line: True, growth=growth, pictures=shown)


def _rendered(template: str, cards: Mapping[str, Mapping], is_shown: Callable[[Line], bool], **values: object) -> str:
    lines = {name: [line for line in lines_of(name, card) if is_shown(line)] for name, card in cards.items()}
    lines = {name: own for name, own in lines.items() if own}
    machines = collections.defaultdict(list)
    for name in lines:
        machines[machine_of(cards[name])].append(name)
    return TEMPLATES.get_template(template).render(cards=cards, lines=lines, machines=machines, **values).strip()


def lines_of(name: str, card: Mapping) -> list[Line]:
    """Return the lines of a benchmark's card.

    Raises:
        DataError: the card lacks figures.
    """
    try:
        return list(LINES[name](card))
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{name}.json lacks figures ({type(error).__name__}: {error}). {REMEDY}") from error


def machine_of(card: Mapping) -> Machine:
    """Return the machine of a card."""
    machine = card["machine"]
    processor, instructions = machine.get("processor", machine["architecture"]), machine.get("instructions", ())
    return Machine(machine["cores"], processor, tuple(instructions), card["versions"]["tensorflow"])


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
        root / "README.md": headlines(cards),
        root / "docs/performance.md": details(cards, root / "docs/pictures"),
    }
    return {page: with_block(page.read_text(encoding="utf-8"), block, page.name) for page, block in blocks.items()}


def main(root: Path = ROOT) -> int:
    """Rewrite what has changed; return the exit code: 0, or 2 where a card or a page is damaged."""
    with ExitCode() as outcome:
        for page, text in pages(root).items():
            if text != page.read_text(encoding="utf-8"):
                write_text(page, text)
                print(f"{page.relative_to(root)}: new figures")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
