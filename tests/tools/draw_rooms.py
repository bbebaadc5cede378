"""Write the picture of packages and imports into docs/design.md: `python -m tests.tools.draw_rooms`."""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from saat_tf.files import write_text

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/design.md"
PACKAGES = ("export", "trainers", "saat_tf")
BEGIN, END = "<!-- rooms:begin -->", "<!-- rooms:end -->"


def room_of(module: str) -> str:
    """Return the room of a module: its package and folder, or the package for a program or a file at its top.

    Example:
        >>> room_of("saat_tf.data.decoding.decode"), room_of("trainers.coco")
        ('saat_tf/data', 'trainers')
    """
    parts = module.split(".")
    is_folder = len(parts) > 1 and parts[-1] != "__main__" and ROOT.joinpath(*parts[:2]).is_dir()
    return "/".join(parts[:2]) if is_folder else parts[0]


def imported_modules(text: str) -> Iterator[str]:
    """Yield the modules of this project that a source text imports, inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def room_imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Return, for each room, the other rooms that its files import."""
    imports = {}
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        module = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if module == "saat_tf":
            continue  # it only gives the public names of the rooms below it
        room = room_of(module)
        found = {room_of(name) for name in imported_modules(file.read_text(encoding="utf-8"))}
        imports.setdefault(room, set()).update(found - {room})
    return imports


def without_detours(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports without those that a longer way gives too, so that a picture of them can be read.

    A way through a room that imports back is no longer way: both arrows of such a pair are kept.

    Example:
        >>> without_detours({"a": {"b", "c"}, "b": {"c"}, "c": set()})
        {'a': {'b'}, 'b': {'c'}, 'c': set()}
    """
    reached = {room: _reached(imports, room) for room in imports}
    return {
        room: {
            used
            for used in direct
            if not any(used in reached[other] for other in direct - {used} if room not in reached[other])
        }
        for room, direct in imports.items()
    }


def _reached(imports: Mapping[str, set[str]], start: str) -> set[str]:
    reached, rest = set(), [start]
    while rest:
        new = imports.get(rest.pop(), set()) - reached
        reached |= new
        rest += new
    return reached


def picture(imports: Mapping[str, set[str]]) -> str:
    """Return the mermaid block: a box a package, a node a room, an arrow from a room to a room that it imports."""
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        lines.append(f"  subgraph box_{package}[{package}]")
        for room in sorted(room for room in imports if room.split("/")[0] == package):
            title = room.partition("/")[2] or ("modules" if package == "saat_tf" else "programs")
            lines.append(f"    {_node(room)}[{title}]")
        lines.append("  end")
    lines += [f"  {_node(room)} --> {_node(used)}" for room, all_used in imports.items() for used in sorted(all_used)]
    return "\n".join([*lines, "```"])


def _node(room: str) -> str:
    return room.replace("/", "_")


def with_picture(page: str) -> str:
    """Return the text of the page with the picture of the code between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"Expected {BEGIN} and after it {END}, each on a line of its own. Received: a page without.")
    return f"{before}{BEGIN}\n\n{picture(without_detours(room_imports()))}\n\n{END}{after}"


def main() -> None:
    """Rewrite the page."""
    write_text(PAGE, with_picture(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main())
