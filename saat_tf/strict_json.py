"""JSON: the one reader of JSON, which takes what every other reader takes as well and nothing else."""

import collections
import itertools
import json
import math
from collections.abc import Collection, Mapping
from types import UnionType
from typing import Any

from saat_tf.text_lists import DataError, File, decode_text, read_entries

# Annotations and metadata in use have 6 levels; other readers refuse from a few hundred or a thousand on.
MAX_NESTING = 100
TOO_DEEP = f"it is nested in more than {MAX_NESTING} levels"


def parse_json(
    text: str | bytes,
    place: object,
    *,
    line: int | None = None,
    without: Collection[str] = (),
    remedy: str = "Write it again.",
) -> Any:
    """Parse JSON strictly.

    Args:
        text: UTF-8 where it is bytes, with or without a byte-order mark.
        place: the file that the message names.
        line: line of the file at which the text begins; None where it is the whole file.
        without: keys that are dropped from every object as soon as it is parsed.
        remedy: what the message advises.

    Returns:
        The value.

    Raises:
        DataError: it is no JSON (NaN, Infinity and a number beyond float64 are none), an object has a key twice, or it
            is nested in more than `MAX_NESTING` levels.
    """

    def to_dict(pairs: list[tuple[str, object]]) -> dict:
        found = dict(pairs)
        if len(found) != len(pairs):
            ((repeated, _),) = collections.Counter(key for key, _ in pairs).most_common(1)
            raise _StrictError(f"an object has the key {repeated!r} twice")
        for key in without:
            found.pop(key, None)
        return found

    where = place if line is None else f"{place}:{line}"
    if isinstance(text, bytes):
        text = decode_text(text, place)
    try:
        value = json.loads(text, object_pairs_hook=to_dict)
        _check(value)
    except json.JSONDecodeError as error:
        at = (line or 1) + error.lineno - 1
        raise DataError(f"{place}:{at}: not whole JSON ({error.msg} at column {error.colno}). {remedy}") from error
    except RecursionError:
        raise DataError(f"{where}: no JSON that is read here ({TOO_DEEP}). {remedy}") from None
    except ValueError as error:  # a number of thousands of digits among others
        raise DataError(f"{where}: no JSON that is read here ({error}). {remedy}") from error
    return value


def read_json(file: File, *, without: Collection[str] = (), remedy: str = "Write it again.") -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        FileNotFoundError: there is no such regular file.
        DataError: as `parse_json`.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file.")
    return parse_json(file.read_bytes(), file, without=without, remedy=remedy)


def read_object(file: File, fields: Mapping[str, type | UnionType], *, remedy: str = "Write it again.") -> dict:
    """Read a JSON file that contains an object; see `read_json`.

    Args:
        file: the file.
        fields: what the object must have, by type; it may have more. A truth value counts as no number.
        remedy: what the message advises.

    Raises:
        FileNotFoundError: there is no such regular file.
        DataError: as `parse_json`; or it is no object, or a field is missing or of another type.
    """
    value = read_json(file, remedy=remedy)
    if not isinstance(value, dict):
        raise DataError(f"{file}: expected a JSON object. Received: {type(value).__name__}. {remedy}")
    if wrong := wrong_fields(value, fields):
        raise DataError(f"{file}: {', '.join(wrong)} missing or of another type. {remedy}")
    return value


def wrong_fields(value: Mapping, fields: Mapping[str, type | UnionType]) -> list[str]:
    """Return the names of the fields that an object lacks or has of another type."""
    return [name for name, kind in fields.items() if not _is_a(value.get(name), kind)]


def _is_a(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def read_json_lines(file: File) -> list[tuple[int, Any]]:
    """Read a list with a JSON value a line: number of the line, from 1, and value; blank lines are passed over.

    Raises:
        DataError: as `saat_tf.text_lists.read_lines` and, with the line, as `parse_json`.
    """
    return [(number, parse_json(text, file, line=number)) for number, text in read_entries(file)]


class _StrictError(ValueError):
    """JSON that Python's reader accepts and this one refuses."""


def _check(value: object) -> None:
    """Raise `_StrictError` where a number is not finite or the nesting is too deep."""
    level, depth = [value], 0
    while level:
        if any(isinstance(part, float) and not math.isfinite(part) for part in level):
            raise _StrictError("it contains NaN, Infinity or a number beyond float64")
        lists = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        depth += bool(lists)
        if depth > MAX_NESTING:
            raise _StrictError(TOO_DEEP)
        level = list(itertools.chain.from_iterable(lists))
