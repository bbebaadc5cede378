"""Text lists: the one reader of files with an entry a line, and the one form of the paths in them.

A list is UTF-8, with or without a byte-order mark at its start, plain or gzipped (`.gz`). Lines end with
\\n or \\r\\n and with nothing else: U+2028 and U+0085 are characters of a line. Spaces and tabs around a line do not
count, nor do blank lines at the end of a list.
"""

import gzip
import importlib.resources.abc
import io
import posixpath
import zlib

# The longest list in use, COCO's database, has 19 MB of labels. A file that unpacks to more than this is no list.
MAX_LIST_BYTES = 2**30
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
BYTE_ORDER_MARK = "\ufeff"
AROUND = " \t"

# What pathlib.Path and zipfile.Path have in common.
File = importlib.resources.abc.Traversable


class DataError(ValueError):
    """Something is wrong with the user's data; the message names file, line and remedy."""


def read_text(file: File) -> str:
    """Read a UTF-8 text file, gzipped where its name ends in .gz, without its byte-order mark.

    Raises:
        DataError: it is no such file, or unpacks to more than `MAX_LIST_BYTES`.
        OSError: it cannot be read.
    """
    contents = file.read_bytes()
    if file.name.endswith(".gz"):
        try:
            contents = gzip.GzipFile(fileobj=io.BytesIO(contents)).read(MAX_LIST_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{file}: not a whole gzip file ({error}). Fetch it again.") from error
        if len(contents) > MAX_LIST_BYTES:
            raise DataError(f"{file}: unpacks to more than {MAX_LIST_BYTES:,} bytes, which is no list.")
    return decode_text(contents, file)


def decode_text(contents: bytes, place: object) -> str:
    """Decode UTF-8, without its byte-order mark.

    Args:
        contents: of a text file.
        place: what the message names.

    Raises:
        DataError: it is not UTF-8, or contains a NUL, as UTF-16 without a mark does.
    """
    try:
        fault = "it has the byte-order mark of UTF-16 or UTF-32" if contents.startswith(WIDE_MARKS) else None
        text = "" if fault else contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fault = f"{error.reason} at byte {error.start}"
    else:
        if "\0" in text:
            fault = f"NUL at line {text[: text.index(chr(0))].count(chr(10)) + 1}: it is UTF-16, or no text"
    if fault:
        raise DataError(f"{place}: not a UTF-8 text file ({fault}). Save it as UTF-8.")
    return text


def read_lines(file: File) -> list[str]:
    """Read the lines of a list without white space around them, blank ones too, but for those at the end.

    Raises:
        DataError: as `read_text`; or a carriage return stands inside a line, or a byte-order mark before a later one.
    """
    lines = [line.removesuffix("\r").strip(AROUND) for line in read_text(file).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if "\r" in line:
            raise DataError(f"{file}:{number}: a carriage return inside the line. End lines with \\n or \\r\\n.")
        if line.startswith(BYTE_ORDER_MARK):
            raise DataError(f"{file}:{number}: a byte-order mark before the line. Remove it; files were joined there.")
    return lines


def read_entries(file: File) -> list[tuple[int, str]]:
    """Read the lines of a list that stands alone, where blank lines say nothing: number from 1 and text of the others.

    Raises:
        DataError: as `read_lines`.
    """
    return [(number, line) for number, line in enumerate(read_lines(file), start=1) if line]


def normal_path(path: str) -> str:
    """Return the one form of a path with `/`: without `.`, `..` after a name, or doubled separators.

    Names alone decide: a link to a folder counts as a folder of its own.

    Example:
        >>> [normal_path(path) for path in ("./a.jpg", "sub/../a.jpg", "sub//a.jpg", "../a.jpg", "//data/a.jpg")]
        ['a.jpg', 'a.jpg', 'sub/a.jpg', '../a.jpg', '/data/a.jpg']
    """
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path


def listed_path(line: str) -> str:
    r"""Return the normal form of a path on a line of a list, where `\` separates folders as `/` does.

    Example:
        >>> listed_path(".\\sub\\a.jpg")
        'sub/a.jpg'
    """
    return normal_path(line.replace("\\", "/"))


def can_be_listed(path: str) -> bool:
    """Return whether a line that contains `path` reads back as it: a list has no escapes."""
    lone = any("\ud800" <= character <= "\udfff" for character in path)  # of a name that is not UTF-8
    odd = lone or any(character in path for character in "\n\r\0\\")
    return not odd and path == path.strip(AROUND) and path != "" and not path.startswith(BYTE_ORDER_MARK)
