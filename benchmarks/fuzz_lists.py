"""Send odd and damaged lists, ids, metadata and COCO annotations to their readers: `python -m benchmarks.fuzz_lists`.

Each input is also read by an oracle that is written here by the stated rules alone, character by character and with
Python's own decoder of one JSON value. The reader must give the oracle's value, or a `DataError` that names the file
where the oracle gives none. Any other exception is a failure. `--inputs 10000 --seed 0` are the defaults.
"""

import argparse
import collections
import functools
import json
import math
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from export.bulk.images import list_images
from export.bulk.item_lists import read_ids, read_metadata
from saat_tf.data.list_format import read_split
from saat_tf.data.tfds.coco import CLASS_NAMES, _labels
from saat_tf.strict_json import MAX_NESTING
from saat_tf.text_lists import DataError

NAMES = [
    "a.jpg",
    "./a.jpg",
    "sub/../a.jpg",
    "sub\\a.jpg",
    "sub//a.jpg",
    "b c.jpg",
    "ü.png",
    "x\u2028y.jpg",
    "x\x85.gif",
]
PATHS = [
    *NAMES,
    "../out.jpg",
    "/etc/a.jpg",
    ".",
    "a.jpg/",
    "sub/./b.jpg",
    "a\ufeff.jpg",
    "..\\..\\up.jpg",
    "...jpg",
    "//a",
]
ENDS = ["\n", "\n", "\n", "\r\n", " \n", "\t\r\n", "\n\n", "\r\r\n", "\r"]
CODECS = ["utf-8"] * 12 + ["utf-8-sig"] * 3 + ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
CONSTANTS = ["NaN", "-Infinity", "1e999", "1" + "0" * 5000, "01", "'a'", "[1,]", '"\t"', "tru", "{'a': 1}", ""]


class Refused(Exception):
    """The oracle takes no such input."""


def main(arguments: list[str] | None = None) -> int:
    """Run, print the counts, and return 1 where reader and oracle differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    counts, differences = run(options.inputs, options.seed)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:10} {outcome:8} {count:,}")
    for difference in differences[:10]:
        print(difference)
    print(f"{options.inputs:,} inputs, {len(differences):,} differences.")
    return int(bool(differences))


def run(inputs: int, seed: int) -> tuple[collections.Counter, list[str]]:
    """Return how many inputs of each kind were read and refused, and where reader and oracle differ."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    differences = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(inputs):
            drawn = random.Random(f"{seed}-{number}")
            kind = drawn.choice(list(KINDS))
            make, read, oracle = KINDS[kind]
            contents = damaged(drawn, make(drawn))
            file = folder / "input.txt"
            file.write_bytes(contents)
            expected = outcome_of(functools.partial(oracle, contents, folder), Refused)
            found = outcome_of(functools.partial(read, file), DataError)
            refused = isinstance(found, DataError)
            if refused and str(file) not in str(found):
                differences.append(f"{kind} {number}: the message does not name the file: {found}")
            elif refused != isinstance(expected, Refused) or (not refused and found != expected):
                differences.append(f"{kind} {number}: {contents[:200]!r}: expected {expected!r}, found {found!r}"[:900])
            counts[kind, "refused" if refused else "read"] += 1
    return counts, differences


def outcome_of(call: Callable[[], object], refusal: type[Exception]) -> object:
    """Return what a call returns, or the refusal that it raises; anything else that it raises as a text."""
    try:
        return call()
    except refusal as error:
        return error
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def damaged(drawn: random.Random, text: str) -> bytes:
    """Encode a text, rightly or not, and damage a few."""
    contents = text.encode(drawn.choice(CODECS), errors="replace")
    if contents and drawn.random() < 0.1:
        place = drawn.randrange(len(contents))
        contents = (
            contents[:place] + drawn.choice([b"", b"\0", b"\xff", b"\r", b"\xef\xbb\xbf"]) + contents[place + 1 :]
        )
    return contents[: drawn.randrange(len(contents) + 1)] if drawn.random() < 0.05 else contents


def joined(drawn: random.Random, lines: list[str]) -> str:
    """End lines in any way."""
    ends = ENDS if drawn.random() < 0.3 else ENDS[:6]
    return "".join(drawn.choice(["", "", "", " ", "\t"]) + line + drawn.choice(ends) for line in lines)


def make_paths(drawn: random.Random) -> str:
    """Make a list of images."""
    paths = PATHS if drawn.random() < 0.4 else NAMES
    return joined(drawn, [drawn.choice([*paths, ""]) for _ in range(drawn.randrange(6))])


def make_labels(drawn: random.Random) -> str:
    """Make a list of label rows."""
    width = drawn.randrange(1, 4)
    cells = ["0", "1"] * 20 + ["2", "-1", "1.0", "nan", "00"]
    rows = [" ".join(drawn.choice(cells) for _ in range(width)) for _ in range(drawn.randrange(5))]
    if rows and drawn.random() < 0.1:
        rows[-1] += drawn.choice([" 0", "1"])
    return joined(drawn, rows)


def make_value(drawn: random.Random, depth: int = 3) -> str:
    """Make the text of a JSON value, or of what is nearly one."""
    kind = drawn.randrange(24)
    if kind == 0:
        return drawn.choice(CONSTANTS)
    if kind == 1:
        levels = drawn.choice([MAX_NESTING - 2, MAX_NESTING - 1, MAX_NESTING, MAX_NESTING + 1, 3000, 200_000])
        return "[" * levels + "]" * levels
    if kind < 6 and depth:
        pairs = (f'"{drawn.choice("abc")}": {make_value(drawn, depth - 1)}' for _ in range(drawn.randrange(3)))
        return "{" + ", ".join(pairs) + "}"
    if kind < 9 and depth:
        return "[" + ", ".join(make_value(drawn, depth - 1) for _ in range(drawn.randrange(3))) + "]"
    return drawn.choice(["1", "-2.5", "null", "true", '"t\u2028x"', '"\\ud800"', '"ü"', "1e5", '""'])


def make_id(drawn: random.Random) -> str:
    """Make the text of an id, a string nearly always."""
    return make_value(drawn) if drawn.random() < 0.05 else json.dumps(drawn.choice(PATHS), ensure_ascii=False)


def make_ids(drawn: random.Random) -> str:
    """Make a list of ids."""
    return joined(drawn, [make_id(drawn) for _ in range(drawn.randrange(4))])


def make_metadata(drawn: random.Random) -> str:
    """Make a list of metadata."""
    lines = []
    for _ in range(drawn.randrange(4)):
        fields = [f'"id": {make_id(drawn)}'] if drawn.random() < 0.95 else []
        fields += [f'"{drawn.choice("title")}": {make_value(drawn)}' for _ in range(drawn.randrange(3))]
        drawn.shuffle(fields)
        lines.append("{" + ", ".join(fields) + "}" if drawn.random() < 0.95 else make_value(drawn))
    return joined(drawn, lines)


def make_coco(drawn: random.Random) -> str:
    """Make COCO annotations with a fault in some."""

    def odd(value: object) -> str:
        return make_value(drawn) if drawn.random() < 0.02 else json.dumps(value)

    numbers = list(range(1, 81))
    categories = [f'{{"id": {n}, "name": {json.dumps(name)}}}' for n, name in zip(numbers, CLASS_NAMES, strict=True)]
    drawn.shuffle(categories)
    if drawn.random() < 0.05:
        categories.append(drawn.choice([categories[0], '{"id": 99, "name": "x"}', "[]", '{"id": true, "name": "x"}']))
    ids = [drawn.choice([1, 2, 3]) if drawn.random() < 0.05 else 10 + n for n in range(drawn.randrange(4))]
    images = [f'{{"id": {odd(n)}, "file_name": {odd(drawn.choice([f"{k}.jpg"] * 20 + ["../x.jpg", "1.jpg"]))}}}'
              for k, n in enumerate(ids)]  # fmt: skip
    boxes = [
        f'{{"image_id": {odd(drawn.choice([*ids, *ids, *ids, *ids, *ids, *ids, 10]))}, "segmentation": '
        f'{make_value(drawn) if drawn.random() < 0.1 else "[[1, 2]]"}, "category_id": {odd(drawn.choice(numbers))}}}'
        for _ in range(drawn.randrange(4) if ids else 0)
    ]
    parts = {"categories": categories, "images": images, "annotations": boxes}
    text = ", ".join(f'"{key}": [{", ".join(entries)}]' for key, entries in parts.items() if drawn.random() < 0.99)
    return "{" + text + "}"


def text_of(contents: bytes) -> str:
    """Decode by the rule: UTF-8, one mark at the start, no NUL."""
    if contents[:2] in (b"\xff\xfe", b"\xfe\xff") or contents[:4] == b"\0\0\xfe\xff":
        raise Refused
    try:
        text = contents.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise Refused from None
    if "\0" in text:
        raise Refused
    return text[1:] if text[:1] == "\ufeff" else text


def lines_of(contents: bytes) -> list[str]:
    """Cut lines by the rule, character by character."""
    lines, line = [], ""
    for character in [*text_of(contents), "\n"]:
        if character == "\n":
            line = line[:-1] if line[-1:] == "\r" else line
            while line[:1] in (" ", "\t") and line:
                line = line[1:]
            while line[-1:] in (" ", "\t") and line:
                line = line[:-1]
            lines.append(line)
            line = ""
        else:
            line += character
    while lines and lines[-1] == "":
        del lines[-1]
    if any("\r" in line or line[:1] == "\ufeff" for line in lines):
        raise Refused
    return lines


def path_of(text: str) -> str:
    """Bring a path to its form by walking over its parts."""
    kept: list[str] = []
    for part in text.split("/"):
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif part == ".." and text[0] == "/":
            pass
        elif part not in ("", "."):
            kept.append(part)
    path = ("/" if text[:1] == "/" else "") + "/".join(kept)
    return path or "."


def json_of(text: str) -> object:
    """Parse JSON by Python's own decoder, and refuse by the rules what that takes."""

    def unique(pairs: list) -> dict:
        if len({key for key, _ in pairs}) < len(pairs):
            raise Refused
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise Refused from None
    check_value(value, MAX_NESTING)
    return value


def check_value(value: object, levels: int) -> None:
    """Refuse what is nested in more than `levels`, and numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused
    if isinstance(value, dict | list):
        if levels == 0:
            raise Refused
        for part in value.values() if isinstance(value, dict) else value:
            check_value(part, levels - 1)


def oracle_images(contents: bytes, folder: Path) -> list[str]:
    """Return ids of images by the rule."""
    ids: list[str] = []
    for line in lines_of(contents):
        if not line:
            continue
        path = path_of(line.replace("\\", "/"))
        inside = path_of(path if path[0] == "/" else f"{folder}/{path}")
        if inside != str(folder) and not inside.startswith(f"{folder}/"):
            raise Refused
        item_id = inside[len(str(folder)) + 1 :] or "."
        if item_id not in ids:
            ids.append(item_id)
    if not ids:
        raise Refused
    return ids


def oracle_labels(contents: bytes, folder: Path) -> list[list[float]]:
    """Return label rows by the rule."""
    rows = [line.split() for line in lines_of(contents)]
    if not rows or not rows[0] or any(len(row) != len(rows[0]) or {*row} - {"0", "1"} for row in rows):
        raise Refused
    return [[float(value) for value in row] for row in rows]


def read_label_rows(file: Path) -> list[list[float]]:
    """Read label rows beside a list of as many images."""
    images = file.with_name("images.txt")
    try:
        count = len(lines_of(file.read_bytes()))
    except Refused:
        count = 1
    images.write_text("".join(f"{number}.jpg\n" for number in range(count)))
    try:
        return read_split(images, file)[1].tolist()
    except DataError as error:  # of an empty data set the image list is named
        raise DataError(str(error).replace(str(images), str(file))) from error


def oracle_ids(contents: bytes, folder: Path) -> list[str]:
    """Return ids by the rule."""
    values = [json_of(line) for line in lines_of(contents) if line]
    ids = [path_of(value) for value in values if isinstance(value, str) and value]
    if len(ids) < len(values):
        raise Refused
    if len({*ids}) < len(ids):
        raise Refused
    return ids


def oracle_metadata(contents: bytes, folder: Path) -> dict[str, dict]:
    """Return metadata by the rule."""
    found: dict[str, dict] = {}
    for line in lines_of(contents):
        if not line:
            continue
        value = json_of(line)
        if not isinstance(value, dict) or not isinstance(value.get("id"), str) or not value["id"]:
            raise Refused
        item_id = path_of(value["id"])
        if item_id in found:
            raise Refused
        found[item_id] = {key: one for key, one in value.items() if key != "id"}
    return found


def oracle_coco(contents: bytes, folder: Path) -> dict[str, list[int]]:
    """Return the columns of each image by the rule, by two loops over everything."""

    def without_outlines(pairs: list) -> dict:
        if len({key for key, _ in pairs}) < len(pairs):
            raise Refused
        return {key: value for key, value in pairs if key != "segmentation"}

    try:
        value = json.loads(text_of(contents), object_pairs_hook=without_outlines)
    except (ValueError, RecursionError):
        raise Refused from None
    check_value(value, MAX_NESTING)
    fields = {
        "categories": ("id", "name"), "images": ("id", "file_name"), "annotations": ("image_id", "category_id")
    }  # fmt: skip
    for part, (first, second) in fields.items():
        entries = value.get(part) if type(value) is dict else None
        if type(entries) is not list:
            raise Refused
        for entry in entries:
            kind = int if part == "annotations" else str
            if type(entry) is not dict or type(entry.get(first)) is not int or type(entry.get(second)) is not kind:
                raise Refused
    for part, field in (("categories", "id"), ("images", "id"), ("images", "file_name")):
        if len({entry[field] for entry in value[part]}) < len(value[part]):
            raise Refused
    order = sorted(value["categories"], key=lambda category: category["id"])
    if tuple(category["name"] for category in order) != CLASS_NAMES:
        raise Refused
    found: dict[str, list[int]] = {}
    for box in value["annotations"]:
        names = [image["file_name"] for image in value["images"] if image["id"] == box["image_id"]]
        columns = [i for i, category in enumerate(order) if category["id"] == box["category_id"]]
        if not names or not columns or "/" in names[0] or names[0] in ("", ".", ".."):
            raise Refused
        found[names[0]] = sorted({*found.get(names[0], []), *columns})
    return found


def read_coco_file(file: Path) -> dict[str, list[int]]:
    """Read annotations: file name -> columns."""
    return {name: row.nonzero()[0].tolist() for name, row in _labels(file).items()}


KINDS = {
    "images": (make_paths, lambda file: list_images(file).ids, oracle_images),
    "labels": (make_labels, read_label_rows, oracle_labels),
    "ids": (make_ids, read_ids, oracle_ids),
    "metadata": (make_metadata, read_metadata, oracle_metadata),
    "coco": (make_coco, read_coco_file, oracle_coco),
}

if __name__ == "__main__":
    sys.exit(main())
