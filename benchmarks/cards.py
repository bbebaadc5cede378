"""What benchmarks read again of the cards that they wrote: whole, or refused with the file's name."""

from collections.abc import Mapping
from types import UnionType

from saat_tf.strict_json import wrong_fields

REMEDY = "Restore it, or remove it and measure again."


def wrong_entries(entries: object, fields: Mapping[str, type | UnionType]) -> list[str]:
    """Return the names of the entries that are no objects, or lack a field or have it of another type."""
    if not isinstance(entries, dict):
        return ["all"]
    return [name for name, entry in entries.items() if not isinstance(entry, dict) or wrong_fields(entry, fields)]
