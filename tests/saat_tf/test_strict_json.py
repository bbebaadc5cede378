"""The reader of JSON: what is read, and what other readers would not take."""

import json
import os
import sys

import pytest

from saat_tf.strict_json import MAX_NESTING, parse_json, read_json, read_json_lines
from saat_tf.text_lists import DataError

REFUSED = {
    "NaN": ('{"a": NaN}', "it contains NaN, Infinity or a number beyond float64"),
    "Infinity": ("[-Infinity]", "it contains NaN, Infinity or a number beyond float64"),
    "beyond float64": ("1e999", "it contains NaN, Infinity or a number beyond float64"),
    "a key twice": ('{"a": 1, "b": {"id": 1, "id": 2}}', "an object has the key 'id' twice"),
    "thousands of digits": ("1" * 5000, "integer string conversion"),
    "one level too deep": ("[" * (MAX_NESTING + 1) + "]" * (MAX_NESTING + 1), "nested in more than 100 levels"),
    "deep objects": ('{"a":' * 150 + "1" + "}" * 150, "nested in more than 100 levels"),
    "deep beyond Python": ("[" * 200_000 + "]" * 200_000, "nested in more than 100 levels"),
    "cut short": ('{"a": [1,\n 2', ":2: not whole JSON (Expecting ',' delimiter at column 3)"),
    "nothing": ("", ":1: not whole JSON (Expecting value at column 1)"),
}


@pytest.mark.parametrize("text, message", REFUSED.values(), ids=REFUSED)
def test_what_is_no_json_is_refused_by_name(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError) as caught:
        read_json(tmp_path / "x.json", remedy="Fetch it again.")
    assert str(caught.value).startswith(f"{tmp_path / 'x.json'}:") and message in str(caught.value)
    assert str(caught.value).endswith("Fetch it again.")


def test_the_deepest_nesting_is_read_wherever_it_is_read_from():
    text = "[" * MAX_NESTING + "]" * MAX_NESTING

    def below(frames):
        return below(frames - 1) if frames else parse_json(text, "x")

    assert json.dumps(below(0)) == text == json.dumps(below(sys.getrecursionlimit() // 3))


def test_devices_and_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.symlink("/dev/zero", tmp_path / "zero")
    for name in ("absent", "pipe", "zero"):
        with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
            read_json(tmp_path / name)


def test_keys_can_be_dropped_and_a_mark_may_begin_the_file(tmp_path):
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": {"b": 1, "c": [1e5, null]}, "b": 2}')
    assert read_json(tmp_path / "x.json", without=["b"]) == {"a": {"c": [1e5, None]}}


def test_json_lines_have_their_numbers(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes('\ufeff{"a": "x\u2028y"}\r\n\n"b\x85" \n'.encode())
    assert read_json_lines(file) == [(1, {"a": "x\u2028y"}), (3, "b\x85")]
    file.write_text('1\n\n{"a": }\n')
    with pytest.raises(DataError, match=r"x\.jsonl:3: not whole JSON \(Expecting value at column 7\)"):
        read_json_lines(file)
