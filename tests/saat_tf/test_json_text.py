"""JSON within limits: the same values as the standard library, and for everything else an error with its place."""

import json
import os
import random

import pytest

from saat_tf.json_text import MAX_NESTING, parse_json, read_json

DEEPEST = "[" * MAX_NESTING + "]" * MAX_NESTING


def value(choose, depth):
    kinds = ["text", "number", "none", "list", "dict"] if depth else ["text", "number", "none"]
    match choose.choice(kinds):
        case "text":
            return "".join(choose.choices('[]{}"\\\n é\u2028,:', k=choose.randrange(9)))
        case "number":
            return choose.choice([0, -1, 2**70, 0.1, 1e300])
        case "none":
            return choose.choice([None, True, False])
        case "list":
            return [value(choose, depth - 1) for _ in range(choose.randrange(40))]
        case "dict":
            return {str(i) + "[{\\": value(choose, depth - 1) for i in range(choose.randrange(40))}


@pytest.mark.parametrize("ascii_alone", [True, False])
def test_what_is_within_the_limits_is_read_as_the_standard_library_reads_it(ascii_alone):
    choose = random.Random(0)
    many = 0
    for _ in range(300):
        text = json.dumps(value(choose, 3), ensure_ascii=ascii_alone, indent=choose.choice([None, 1]))
        many += text.count("[") + text.count("{") > MAX_NESTING  # those whose nesting is counted
        assert parse_json(text, "x") == parse_json(text.encode(), "x") == json.loads(text)
    assert many > 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" + DEEPEST + "]", rf"card: .* at most {MAX_NESTING} deep .* line 1, column {MAX_NESTING + 1}\."),
        ('{\n"a":' + "[" * 100_000, rf"line 2, column {4 + MAX_NESTING}\."),
        ('{"a":' * 100_000, "deep"),
        ('["' + "[" * 200 + '", "\\"' + "{" * 200, r"card: not JSON: Unterminated string .* column 206\."),
        ("", r"card: not JSON: Expecting value at line 1, column 1\."),
        ("[1,\n2,,]", r"card: not JSON: .* at line 2, column 3\."),
        (b'{"a": "\xff"}', r"card: not JSON: no UTF-8 at byte 7\."),
        ("[" + "9" * 5000 + "]", "card: .* digits"),
        (b"\x00", "card: not JSON"),
    ],
    ids=range(9),
)
def test_what_is_beyond_them_is_refused_with_its_place(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text, "card")


def test_the_deepest_that_is_taken_and_a_byte_order_mark():
    assert parse_json(DEEPEST, "x") == json.loads(DEEPEST)
    assert parse_json(b"\xef\xbb\xbf[1]", "x") == [1]
    assert parse_json(json.dumps(["[" * 500]), "x") == ["[" * 500]  # brackets in a string nest nothing


def test_files_are_read_up_to_the_limit_and_devices_not_at_all(tmp_path):
    file = tmp_path / "card.json"
    file.write_text('{"a": 1}')
    assert read_json(file, max_bytes=8) == {"a": 1}
    with pytest.raises(ValueError, match=r"card\.json: JSON of at most 7 bytes"):
        read_json(file, max_bytes=7)
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/dev/zero", tmp_path / "zero")
    for name in ("absent", "pipe", "zero"):
        with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
            read_json(tmp_path / name)
