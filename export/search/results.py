"""Results of a search: for a terminal, as JSON, and as a page with pictures."""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

import rich.table
import rich.text

from export.search.items import Hit

THUMBNAIL = 160


@dataclasses.dataclass(frozen=True)
class QueryResult:
    """What was found for one query.

    Args:
        query: path of the query's image.
        hits: nearest first.
    """

    query: str
    hits: list[Hit]


def printable(text: str) -> str:
    r"""Return text in which a terminal finds nothing to obey: whatever is not printable is escaped.

    Example:
        >>> printable("a\x1b[2J\udcff")
        'a\\x1b[2J\\udcff'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )


def result_table(results: Sequence[QueryResult], code_length: int) -> rich.table.Table:
    """Return a table with a row a hit."""
    table = rich.table.Table(caption=f"distance: differing bits of {code_length}")
    for column in ("query", "rank", "id", "distance", "metadata"):
        table.add_column(column, justify="right" if column in ("rank", "distance") else "left", overflow="fold")
    for result in results:
        for rank, hit in enumerate(result.hits, 1):
            name = printable(result.query) if rank == 1 else ""
            cells = (name, str(rank), printable(hit.id), str(hit.distance), json.dumps(hit.metadata))
            table.add_row(*map(rich.text.Text, cells), end_section=rank == len(result.hits))
        if not result.hits:
            table.add_row(rich.text.Text(printable(result.query)), "", "nothing", "", "", end_section=True)
    return table


def result_json(results: Sequence[QueryResult]) -> str:
    """Return JSON in ASCII: [{"query": ..., "hits": [{"id": ..., "distance": ..., "metadata": {...}}]}]."""
    return json.dumps([dataclasses.asdict(result) for result in results], indent=1)


def allowed_picture(hit: Hit, roots: Sequence[str]) -> str | None:
    """Return the path of an item's picture, None where it lies outside of the folders of the index's images.

    Metadata may name any file, and links may lead anywhere: what counts is where the file is in the end.
    """
    path = hit.metadata.get("path")
    try:
        real = Path(path).resolve()
        return path if any(real.is_relative_to(Path(root).resolve()) for root in roots) else None
    except (TypeError, ValueError, OSError, RuntimeError):
        return None


def result_page(results: Sequence[QueryResult], code_length: int, roots: Sequence[str]) -> bytes:
    """Return an HTML page that holds its pictures and asks for nothing outside; the path of an item is in its metadata.

    A picture that cannot be read any more leaves its place to words.
    """
    from saat_tf.evaluation.report.page import element, page  # brings TensorFlow

    parts = [element("h1", "Search results"), element("p", f"Distances are differing bits of {code_length}.")]
    for result in results:
        parts.append(element("h2", printable(result.query)))
        parts.append(element("div", _figure(result.query, "The query."), class_="tiles"))
        figures = [
            _figure(allowed_picture(hit, roots), f"{rank}: {printable(hit.id)}, distance {hit.distance}{_about(hit)}.")
            for rank, hit in enumerate(result.hits, 1)
        ]
        parts.append(element("div", *figures, class_="tiles") if figures else element("p", "Nothing was found."))
    return page("Search results", *parts)


def _about(hit: Hit) -> str:
    rest = {name: value for name, value in hit.metadata.items() if name != "path"}
    return f", {json.dumps(rest, ensure_ascii=False)}" if rest else ""


def _figure(path: str | None, caption: str):
    from saat_tf.evaluation.report.page import element, picture

    thumbnail = _thumbnail(path) if isinstance(path, str) else None
    if thumbnail is None:
        return element("figure", element("p", "no picture", class_="soft"), element("figcaption", caption))
    png, size = thumbnail
    return picture(png, size, caption, f"Picture of {caption}")


def _thumbnail(path: str) -> tuple[bytes, tuple[int, int]] | None:
    """Return a PNG of at most THUMBNAIL pixels a side, and its size; None where the file cannot be read."""
    from PIL import Image

    from saat_tf.data.decoding.decode import FORMATS, MAX_PIXELS

    try:
        if not Path(path).is_file():
            return None
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            small = image.convert("RGB")
    except Exception:  # a damaged or hostile file makes decoders raise anything
        return None
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue(), small.size
