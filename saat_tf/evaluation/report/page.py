"""A page without outside parts: elements that escape what they hold, and the style they are shown in."""

import base64
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

# No script runs and nothing is requested, whatever the page holds: images are data, the style is inline.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light; --ink: #1b1b1b; --soft: #5a5a5a; --line: #dcdcdc; --blue: #0072B2; --red: #b34700; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 64rem; background: #fff; color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; padding-top: .7rem; border-top: 2px solid var(--ink); }
p { margin: .3rem 0 .9rem; max-width: 46rem; }
.soft { color: var(--soft); }
.tiles, .figures { display: grid; gap: 1.2rem; }
.tiles { gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 9.5rem), 1fr)); }
.tile { border: 1px solid var(--line); border-top: 4px solid var(--blue); border-radius: 4px; padding: .7rem .9rem; }
.tile.warns { border-top-color: var(--red); }
.tile strong { display: block; font-size: clamp(1.15rem, 5vw, 1.7rem); line-height: 1.3; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.figures { grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); align-items: start; }
.lead > figure:first-child { grid-row: span 2; }
.lead > figure:only-child { grid-column: 1 / -1; max-width: 34rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 4px; padding: .6rem; break-inside: avoid; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: .5rem; padding-top: .5rem; border-top: 1px solid var(--line); font-size: .95rem; }
.label { margin: 1.2rem 0 .4rem; max-width: none; }
.scroll { overflow-x: auto; margin: 0 0 1.2rem; border: 1px solid var(--line); border-radius: 4px; }
.scroll:focus-visible { outline: 3px solid var(--blue); }
table { border-collapse: collapse; width: 100%; font-size: .93rem; overflow-wrap: normal; }
th, td { padding: .35rem .55rem; text-align: left; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: none; border-bottom: 2px solid var(--ink); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.finding { border-left: 5px solid var(--blue); padding: .15rem .8rem; margin: .7rem 0; }
.finding.warns { border-left: 5px dashed var(--red); background: #fff6f0; }
.finding p { margin: .15rem 0; }
summary { cursor: pointer; padding: .3rem 0; font-weight: 600; }
""".strip()

Child = Element | str


def element(tag: str, *children: Child, **attributes: str | int) -> Element:
    """Make an HTML element; what is passed as text or as an attribute is shown as such and never read as HTML.

    Args:
        tag: name of the element.
        children: elements and strings, in order.
        attributes: names with `_` for `-`, and `class_` for `class`.

    Example:
        >>> tostring(element("p", "1 < 2 ", element("b", "<script>"), class_="x"), encoding="unicode", method="html")
        '<p class="x">1 &lt; 2 <b>&lt;script&gt;</b></p>'
    """
    made = Element(tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str | float]]) -> Element:
    """Make a table below its caption, in a box that scrolls sideways; numbers have three digits, at the right."""

    def cell(value: str | float) -> Element:
        return element("td", value) if isinstance(value, str) else element("td", f"{value:.3f}", class_="number")

    rows = [list(row) for row in rows]
    numeric = [not isinstance(value, str) for value in rows[0]] if rows else [False] * len(columns)
    heads = [
        element("th", name, scope="col", class_="number" if right else "text")
        for name, right in zip(columns, numeric, strict=True)
    ]
    body = [element("tr", element("th", str(row[0]), scope="row"), *map(cell, row[1:])) for row in rows]
    made = element("table", element("thead", element("tr", *heads)), element("tbody", *body))
    box = element("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption)
    return element("div", element("p", caption, class_="label soft"), box)


def picture(png: bytes, size: tuple[int, int], caption: str, alt: str) -> Element:
    """Make a figure of a PNG of (width, height) pixels, held in the page itself."""
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return element(
        "figure",
        element("img", src=source, alt=alt, width=size[0], height=size[1]),
        element("figcaption", caption),
    )


def page(title: str, *content: Element) -> bytes:
    """Return a whole HTML page as UTF-8."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", STYLE),
    )
    whole = element("html", head, element("body", element("main", *content)), lang="en")
    text = "<!DOCTYPE html>\n" + tostring(whole, encoding="unicode", method="html") + "\n"
    # A file name that is no valid UTF-8 arrives as lone surrogates.
    return text.encode("utf-8", "replace")
