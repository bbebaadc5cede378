"""Lists of items: their ids and additional metadata."""

from pathlib import Path

from saat_tf.strict_json import read_json_lines
from saat_tf.text_lists import DataError, normal_path


def read_ids(file: Path) -> list[str]:
    """Read ids, a JSON string a line, as in ids.jsonl of a shard.

    Returns:
        The ids in their normal form, in the order of the file.

    Raises:
        DataError: a line is no id, or two are one, or as `saat_tf.strict_json.read_json_lines`.
    """
    lines: dict[str, int] = {}
    for number, value in read_json_lines(file):
        _add(file, lines, value, number, "a JSON string, the id of an item")
    return list(lines)


def read_metadata(file: Path) -> dict[str, dict]:
    """Read additional metadata of items: a JSON object a line, with the "id" of the item that it belongs to.

    Returns:
        id in its normal form -> the other fields.

    Raises:
        DataError: a line is not that, or two have one id, or as `saat_tf.strict_json.read_json_lines`.
    """
    lines: dict[str, int] = {}
    found = {}
    for number, value in read_json_lines(file):
        fields = dict(value) if isinstance(value, dict) else {}
        item_id = _add(file, lines, fields.pop("id", None), number, 'a JSON object with an "id", a string')
        found[item_id] = fields
    return found


def _add(file: Path, lines: dict[str, int], item_id: object, number: int, expected: str) -> str:
    """Add the line of an id to `lines`, and return the id in its normal form."""
    if not isinstance(item_id, str) or not item_id:
        raise DataError(f"{file}:{number}: expected {expected}. Received: {str(item_id)[:80]!r}. Correct the line.")
    item_id = normal_path(item_id)
    if item_id in lines:
        raise DataError(f"{file}:{number}: the id {item_id!r} is also at line {lines[item_id]}. Remove one of them.")
    lines[item_id] = number
    return item_id
