"""The parts of the page that show a search: HTML that escapes what it holds, with the pictures inside it."""

import base64
import io
from collections.abc import Sequence
from xml.etree.ElementTree import Element, tostring

import numpy as np
from PIL import Image

from export.demo.searches import Found, Search
from saat_tf.data import RetrievalData
from saat_tf.evaluation.report.page import element

# Right is blue and solid with a tick, wrong is orange and dashed with a cross, as in the report of a run.
STYLE = """
.gradio-container { width: 100%; min-width: 0; }
.gradio-container .main.fillable { width: 100%; max-width: 1240px; min-width: 0;
  padding: 1rem clamp(.7rem, 2.5vw, 2rem); }
.html-container:has(> .prose > .saat) { padding: 0 !important; }
#queries .grid-wrap { max-height: none; height: auto; min-height: 0; }
#queries .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
#queries .gallery-item, #queries .thumbnail-item { width: 100%; height: auto !important; min-width: 0;
  aspect-ratio: 1; }
#results .wrap .error { display: none; }
#queries .thumbnail-item.selected { outline: 3px solid var(--color-accent); outline-offset: 1px; }
#queries .caption-label { display: none; }
.saat h1 { font-size: 1.55rem; line-height: 1.2; margin: .2rem 0 .3rem; }
.saat p { margin: 0 0 .4rem; max-width: 52rem; line-height: 1.5; }
.saat .soft { opacity: .78; }
.saat .score + .soft { font-size: .92rem; }
.saat { --right: #0072B2; --wrong: #C2500A; --wanted: #7B3FA0; color: var(--body-text-color); font-size: 1rem; }
.dark .saat { --right: #56B4E9; --wrong: #F0883E; --wanted: #CC9DE8; }
.saat .told { font-size: 1.12rem; font-weight: 600; }
.saat .told + .soft { margin-bottom: .8rem; }
.saat .engines { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
.saat .engine { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: .9rem;
  background: var(--background-fill-primary); min-width: 0; }
.saat h2 { font-size: 1.15rem; margin: 0; }
.saat h3 { font-size: .95rem; font-weight: 600; margin: 1rem 0 .35rem; }
.saat .score .fell { color: var(--wrong); } .saat .score .held { color: var(--right); }
.saat .score { font-size: 1.7rem; font-weight: 700; line-height: 1.25; font-variant-numeric: tabular-nums; }
.saat .grid { display: grid; gap: .5rem; grid-template-columns: repeat(3, minmax(0, 1fr)); }
.saat figure { margin: 0; min-width: 0; }
.saat img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px; margin: 0; }
.saat img.small { image-rendering: pixelated; }
.saat figcaption b { display: block; }
.saat figcaption { font-size: .84rem; line-height: 1.3; margin-top: .2rem; overflow-wrap: anywhere; }
.saat .found img { border: 3px solid var(--border-color-primary); padding: 2px; border-radius: 6px; }
.saat .right img { border-color: var(--right); } .saat .right b { color: var(--right); }
.saat .wrong img { border-color: var(--wrong); border-style: dashed; } .saat .wrong b { color: var(--wrong); }
.saat .wanted img { border-color: var(--wanted); border-style: double; border-width: 5px; padding: 0; }
.saat .wanted b { color: var(--wanted); }
.saat .bits { display: grid; gap: 3px; grid-template-columns: repeat(16, minmax(0, 1fr)); }
.saat .bit { aspect-ratio: 1; border-radius: 3px; border: 1px solid #8a8f98; display: grid;
  place-items: center; font-size: .7rem; line-height: 1; }
.saat .bit.one { background: #6b7280; color: #fff; }
.saat .bit.flipped { border: 2px solid var(--wrong); color: var(--wrong); font-weight: 800; }
.saat .bit.one.flipped { background: var(--wrong); color: var(--background-fill-primary); }
"""
THUMBNAIL, PIXELATED_BELOW = 160, 96


def html_of(*parts: Element) -> str:
    """Return the parts as the text of one element."""
    return tostring(element("div", *parts, class_="saat"), encoding="unicode", method="html")


def intro(data: RetrievalData, code_length: int) -> str:
    """Return the head of the page: what it is, and of what."""
    return html_of(
        element("h1", "Does the search withstand an attack?"),
        element(
            "p",
            "A search turns a picture into a code of bits and finds the pictures whose codes differ least. An attack "
            "changes the picture, hardly to be seen, so that the search finds something else. Choose a picture, attack "
            "it, and compare an encoder that was trained as usual with one that was trained to withstand.",
        ),
        element(
            "p",
            f"{data.name}: {len(data.test):,} queries, {len(data.database):,} pictures to be found, codes of "
            f"{code_length} bits.",
            class_="soft",
        ),
    )


def results(
    told: str, sides: Sequence[tuple[str, Search, Search | None]], data: RetrievalData, epsilon_255: float = 0
) -> str:
    """Return the searches of all encoders side by side.

    Args:
        told: one sentence above them.
        sides: the title of each encoder, its search with the picture, and that with the attacked picture, if any.
        data: where what was found lies.
        epsilon_255: radius of the attack in units of 1/255.
    """
    panels = [_engine(*side, data, epsilon_255) for side in sides]
    legend = "Right is a picture that shares a label with the one searched with."
    return html_of(
        element("p", told, class_="told", role="status"),
        element("p", legend, class_="soft"),
        element("div", *panels, class_="engines"),
    )


def score(search: Search) -> str:
    """Say how many of the found images are right.

    Example:
        >>> score(Search(np.zeros((1, 1, 3)), np.zeros(8, bool), [Found(0, 1, True), Found(1, 2, False)]))
        '1 of 2'
    """
    return f"{hits(search)} of {len(search.found)}"


def hits(search: Search) -> int:
    """Count the found images that are right."""
    return sum(one.right is True for one in search.found)


def label_names(labels: np.ndarray, data: RetrievalData) -> str:
    """Name the labels of one image, or say that there are none."""
    return ", ".join(data.class_names[c] for c in np.flatnonzero(labels)) or "no label"


def _engine(title: str, before: Search, after: Search | None, data: RetrievalData, epsilon_255: float) -> Element:
    known = all(one.right is not None for one in before.found)
    parts = [element("h2", f"{title.capitalize()} encoder")]
    if known and after is None:
        parts.append(element("div", f"{score(before)} right", class_="score"))
    elif known:
        fell = hits(after) < hits(before)
        now = element("span", score(after), class_="fell" if fell else "held")
        parts.append(element("div", f"{score(before)} → ", now, class_="score"))
        parts.append(element("p", "right before and after the attack", class_="soft"))
    if after is None:
        parts += [
            element("h3", "Its code"),
            _bits(before.bits, before.bits),
            element("h3", "Found"),
            _found(before.found, data),
        ]
        return element("section", *parts, class_="engine", aria_label=title)
    reach = 255 * float(np.abs(after.image - before.image).max())
    gain = 128 / max(epsilon_255, 1)
    change = np.clip((after.image - before.image) * gain + 0.5, 0, 1)
    flipped = int((before.bits != after.bits).sum())
    parts += [
        element("h3", "The picture"),
        element(
            "div",
            _picture(before.image, "original"),
            _picture(after.image, "attacked"),
            _picture(change, f"change x {gain:.0f}, at most {reach:.1f}/255"),
            class_="grid",
        ),
        element("h3", f"Its code: {flipped} of {len(before.bits)} bits flipped, in orange"),
        _bits(before.bits, after.bits),
        element("h3", "Found before the attack"),
        _found(before.found, data),
        element("h3", "Found after the attack"),
        _found(after.found, data),
    ]
    return element("section", *parts, class_="engine", aria_label=title)


def _found(found: Sequence[Found], data: RetrievalData) -> Element:
    return element("div", *(_one_found(one, data) for one in found), class_="grid found")


def _one_found(one: Found, data: RetrievalData) -> Element:
    if one.wanted and not one.right:
        kind, mark = "wanted", "◎ the target"
    elif one.right is None:
        kind, mark = "unknown", ""
    else:
        kind, mark = ("right", "✓ right") if one.right else ("wrong", "✗ wrong")
    names = label_names(data.database.labels[one.index], data)
    image = data.database.load(one.index).numpy()
    bits = "same code" if one.distance == 0 else f"{one.distance} bit{'s' * (one.distance > 1)} off"
    words = [element("b", mark), bits] if mark else [element("b", bits), names]
    shown = _image(image, f"{mark} {names}".strip(), thumbnail=True)
    return element("figure", shown, element("figcaption", *words), class_=kind, title=names)


def _bits(before: np.ndarray, after: np.ndarray) -> Element:
    cells = []
    for old, new in zip(before, after, strict=True):
        kind = " ".join(name for name, holds in (("bit", True), ("one", new), ("flipped", old != new)) if holds)
        cells.append(element("span", "1" if new else "0", class_=kind))
    said = "".join("1" if bit else "0" for bit in after)
    return element("div", *cells, class_="bits", role="img", aria_label=f"code {said}")


def _picture(image: np.ndarray, caption: str) -> Element:
    return element("figure", _image(image, caption), element("figcaption", caption))


def _image(image: np.ndarray, alt: str, thumbnail: bool = False) -> Element:
    """Make an image that holds its pixels: without loss, but for the thumbnails of large ones."""
    pixels = Image.fromarray(np.uint8(np.rint(np.clip(image, 0, 1) * 255)))
    small = max(pixels.size) < PIXELATED_BELOW
    kind, options = ("jpeg", {"quality": 88}) if thumbnail and not small else ("png", {})
    if thumbnail:
        pixels.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    pixels.save(buffer, kind, **options)
    source = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return element("img", src=source, alt=alt, class_="small" if small else "large")
