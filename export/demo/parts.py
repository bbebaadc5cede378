"""The parts of the page that show a search: HTML that escapes what it shows, with the pictures inside it."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from export.demo.searches import Found, Search
from saat_tf.data import RetrievalData
from saat_tf.pages import data_uri, page_templates

THUMBNAIL, PIXELATED_BELOW = 160, 96
PARTS: Any = page_templates("export.demo").get_template("parts.html.j2").module


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
    panels = []
    for title, before, after in sides:
        panel: dict[str, Any] = {
            "title": title,
            "before": _search(before, data),
            "after": after and _search(after, data),
        }
        if after:
            change, gain = after.image - before.image, 128 / max(epsilon_255, 1)
            panel |= {
                "flipped": int((before.bits != after.bits).sum()),
                "largest_change_255": 255 * float(np.abs(change).max()),
                "gain": gain,
                "change": _picture(gain * change + 0.5),
            }
        panels.append(panel)
    return PARTS.results(told, panels)


def hits(search: Search) -> int:
    """Count the found images that are right."""
    return sum(one.right is True for one in search.found)


def label_names(labels: np.ndarray, data: RetrievalData) -> str:
    """Name the labels of one image, or say that there are none."""
    return ", ".join(data.class_names[c] for c in np.flatnonzero(labels).tolist()) or "no label"


def _search(search: Search, data: RetrievalData) -> dict:
    known = all(one.right is not None for one in search.found)
    return {
        "picture": _picture(search.image),
        "bits": search.bits,
        "hits": hits(search) if known else None,
        "found": [_found(one, data) for one in search.found],
    }


def _found(one: Found, data: RetrievalData) -> dict:
    if one.wanted and not one.right:
        kind = "wanted"
    else:
        kind = {None: "unknown", True: "right", False: "wrong"}[one.right]
    picture = _picture(data.database.load(one.index).numpy(), thumbnail=True)
    labels = label_names(data.database.labels[one.index], data)
    return {"kind": kind, "distance": one.distance, "labels": labels, "picture": picture}


def pixels_of(image: np.ndarray) -> np.ndarray:
    """Convert an image of floats, clipped to [0, 1], to uint8."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _picture(image: np.ndarray, thumbnail: bool = False) -> dict:
    """Return an image with its pixels: lossless, except for thumbnails of large images."""
    pixels = Image.fromarray(pixels_of(image))
    small = max(pixels.size) < PIXELATED_BELOW
    kind, options = ("jpeg", {"quality": 88}) if thumbnail and not small else ("png", {})
    if thumbnail:
        pixels.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    pixels.save(buffer, kind, **options)
    return {"source": data_uri(buffer.getvalue(), kind), "small": small}
