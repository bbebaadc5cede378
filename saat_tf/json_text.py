"""JSON from files and peers, parsed within limits of size and nesting. Nothing here imports TensorFlow."""

import json
import re
from pathlib import Path

MAX_BYTES = 64 * 2**20
# Python's parser and whatever walks its result recurse once a level.
MAX_NESTING = 100
# A string, closed or not, or a bracket outside of strings.
TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{\]}]', re.DOTALL)


def parse_json(text: str | bytes, what: str, *, max_bytes: int = MAX_BYTES) -> object:
    """Parse JSON of bounded size and nesting.

    Args:
        text: JSON; bytes are UTF-8, with or without a byte-order mark.
        what: names the source in messages, a file or a peer.
        max_bytes: the largest size: bytes, or characters of a str.

    Returns:
        dict, list, str, int, float, bool or None.

    Raises:
        ValueError: the text is no JSON, larger than `max_bytes` or nested deeper than `MAX_NESTING`. The message
            begins with `what` and gives line and column.

    Example:
        >>> parse_json(b'{"bits": [16, 32]}', "config.json")
        {'bits': [16, 32]}
        >>> parse_json('{"bits": }', "config.json")
        Traceback (most recent call last):
        ValueError: config.json: not JSON: Expecting value at line 1, column 10.
    """
    if len(text) > max_bytes:
        raise ValueError(f"{what}: JSON of at most {max_bytes} bytes was expected. Received: {len(text)}.")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{what}: not JSON: no UTF-8 at byte {error.start}.") from error
    _check_nesting(text, what)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ValueError(f"{what}: not JSON that can be read: {error}.") from error


def read_json(file: Path, *, max_bytes: int = MAX_BYTES) -> object:
    """Read a JSON file of bounded size and nesting; see `parse_json`.

    Raises:
        FileNotFoundError: there is no such regular file.
        ValueError: the file is no JSON, or exceeds a limit.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file.")
    with open(file, "rb") as stream:
        return parse_json(stream.read(max_bytes + 1), str(file), max_bytes=max_bytes)


def _check_nesting(text: str, what: str) -> None:
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return
    depth = 0
    for token in TOKEN.finditer(text):
        bracket = text[token.start()]
        if bracket in "[{":
            depth += 1
        elif bracket in "]}":
            depth -= 1
        if depth > MAX_NESTING:
            line = text.count("\n", 0, token.start()) + 1
            column = token.start() - text.rfind("\n", 0, token.start())
            raise ValueError(
                f"{what}: JSON nested at most {MAX_NESTING} deep was expected. Received: deeper at line {line}, "
                f"column {column}."
            )
