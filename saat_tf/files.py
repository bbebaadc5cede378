"""Writing files so that a reader finds the old one or the new one, and never half of one."""

import json
import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place in one move.

    Args:
        path: the file to write or replace.
        write: called with the temporary path, which has the same suffixes.
    """
    path = Path(path)
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Write `content` as indented JSON, whole."""
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8"))
