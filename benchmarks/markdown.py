"""Markdown from templates beside the code: a person writes the words, the figures come from the cards."""

from collections.abc import Mapping
from pathlib import Path

import jinja2

MISSING = "-"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals, or a dash for None.

    Example:
        >>> number(0.12345), number(None)
        ('0.123', '-')
    """
    return MISSING if value is None else f"{value:.{digits}f}"


def significant(value: float) -> str:
    """Return a number with three significant digits, or all before the point.

    Example:
        >>> significant(0.12345), significant(54321.9)
        ('0.123', '54,322')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """Return a time in s, or in ms below a second.

    Example:
        >>> seconds(0.0042), seconds(12.34)
        ('4.2 ms', '12.3 s')
    """
    return f"{significant(value)} s" if value >= 1 else f"{significant(1e3 * value)} ms"


def time(row: Mapping) -> str:
    """Return the median of a row with its spread, where there is one."""
    median = seconds(row["median_s"])
    if "least_s" in row:
        return f"{median} ({seconds(row['least_s'])} to {seconds(row['most_s'])})"
    return f"{median} (99 of 100 within {seconds(row['p99_s'])})" if "p99_s" in row else median


# Markdown is no HTML: nothing is escaped. A name that a template is not given is an error.
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=False,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters |= {function.__name__: function for function in (number, significant, seconds, time)}
TEMPLATES.filters["count"] = "{:,}".format
