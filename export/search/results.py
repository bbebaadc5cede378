"""Results of a search: for a terminal, as JSON, and as a page with pictures."""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.table
import rich.text

from export.search.items import Hit
from saat_tf.printable import printable

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
    path: Any = hit.metadata.get("path")
    try:
        real = Path(path).resolve()
        return path if any(real.is_relative_to(Path(root).resolve()) for root in roots) else None
    except (TypeError, ValueError, OSError, RuntimeError):
        return None


def result_page(results: Sequence[QueryResult], code_length: int, roots: Sequence[str]) -> bytes:
    """Return an HTML page that contains its pictures and requests nothing; the path of an item is in its metadata.

    Where a picture cannot be read any more, the page says so.
    """
    from saat_tf.pages import page_templates  # brings TensorFlow

    shown = [
        {
            "query": printable(result.query),
            "picture": _thumbnail(result.query),
            "hits": [
                {
                    "id": printable(hit.id),
                    "distance": hit.distance,
                    "picture": _thumbnail(allowed_picture(hit, roots)),
                    "about": json.dumps({n: x for n, x in hit.metadata.items() if n != "path"}, ensure_ascii=False),
                }
                for hit in result.hits
            ],
        }
        for result in results
    ]
    page = page_templates("export.search").get_template("results.html.j2")
    return page.render(results=shown, code_length=code_length).encode("utf-8", "replace")


def _thumbnail(path: object) -> dict | None:
    """Return a PNG of at most THUMBNAIL pixels a side, and its size; None where the file cannot be read."""
    from PIL import Image

    from saat_tf.data.decoding.header import FORMATS, MAX_PIXELS

    try:
        if not isinstance(path, str) or not Path(path).is_file():
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
    return {"png": buffer.getvalue(), "width": small.width, "height": small.height}
