"""The reader of lists: what each odd file is read as, or how it is refused."""

import gzip

import pytest

from saat_tf.text_lists import DataError, can_be_listed, listed_path, normal_path, read_entries, read_lines

READ = {
    "plain": (b"a\nb\n", ["a", "b"]),
    "no end": (b"a\nb", ["a", "b"]),
    "mark": (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
    "mark alone": (b"\xef\xbb\xbf", []),
    "CRLF": (b"a\r\nb\r\n", ["a", "b"]),
    "mixed ends": (b"a\nb\r\nc", ["a", "b", "c"]),
    "spaces around": (b" a b \t\n\tb\n", ["a b", "b"]),
    "blank in the middle": (b"a\n \n\nb\n\n\n", ["a", "", "", "b"]),
    "line separator": ("a\u2028b\nc\x85d\n".encode(), ["a\u2028b", "c\x85d"]),
    "other controls": (b"a\x0bb\x0cc\x1cd\n", ["a\x0bb\x0cc\x1cd"]),
    "no-break space stays": ("\u00a0a\n".encode(), ["\u00a0a"]),
    "empty": (b"", []),
}
REFUSED = {
    "latin-1": (b"ok\n\xe9.jpg\n", "not a UTF-8 text file (invalid continuation byte at byte 3). Save it as UTF-8."),
    "UTF-16": ("a\n".encode("utf-16"), "not a UTF-8 text file (it has the byte-order mark of UTF-16 or UTF-32)"),
    "UTF-16 big": (b"\xfe\xff\0a", "not a UTF-8 text file (it has the byte-order mark of UTF-16 or UTF-32)"),
    "UTF-16 unmarked": ("a\nb\n".encode("utf-16-le"), "NUL at line 1: it is UTF-16, or no text). Save it as UTF-8."),
    "UTF-32 big": (b"\0\0\xfe\xff\0\0\0a", "the byte-order mark of UTF-16 or UTF-32"),
    "old Mac": (b"a\rb\r", ":1: a carriage return inside the line. End lines with \\n or \\r\\n."),
    "two returns": (b"a\nb\r\r\n", ":2: a carriage return inside the line"),
    "joined files": (b"a\n\xef\xbb\xbfb\n", ":2: a byte-order mark before the line. Remove it"),
}


@pytest.mark.parametrize("suffix", ["txt", "txt.gz"])
@pytest.mark.parametrize("contents, lines", READ.values(), ids=READ)
def test_lines_are_those_of_the_rule(tmp_path, contents, lines, suffix):
    file = tmp_path / f"list.{suffix}"
    file.write_bytes(gzip.compress(contents) if suffix.endswith("gz") else contents)
    assert read_lines(file) == lines
    assert read_entries(file) == [(number, line) for number, line in enumerate(lines, 1) if line]


@pytest.mark.parametrize("contents, message", REFUSED.values(), ids=REFUSED)
def test_what_is_no_list_is_refused_by_name(tmp_path, contents, message):
    (tmp_path / "list.txt").write_bytes(contents)
    with pytest.raises(DataError) as caught:
        read_lines(tmp_path / "list.txt")
    assert str(caught.value).startswith(f"{tmp_path / 'list.txt'}:") and message in str(caught.value)


@pytest.mark.parametrize("path, normal", [
    ("a.jpg", "a.jpg"), ("./a.jpg", "a.jpg"), ("sub/../a.jpg", "a.jpg"), ("sub//a.jpg", "sub/a.jpg"),
    ("../a.jpg", "../a.jpg"), ("a/../../b.jpg", "../b.jpg"), ("/x/../a.jpg", "/a.jpg"), ("/../a.jpg", "/a.jpg"),
    ("//a.jpg", "/a.jpg"), ("///a.jpg", "/a.jpg"), ("a.jpg/", "a.jpg"), (".", "."), ("x\\a.jpg", "x\\a.jpg"),
])  # fmt: skip
def test_a_path_has_one_form(path, normal):
    assert normal_path(path) == normal == normal_path(normal)


def test_on_a_line_a_backslash_separates():
    assert [listed_path(line) for line in (r".\sub\a.jpg", r"sub\..\a.jpg", r"..\a.jpg")] == [
        "sub/a.jpg", "a.jpg", "../a.jpg"
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["a b.jpg", "ü.jpg", "a\u2028.jpg", "a\x85.jpg", " ", "a ", "\ta", "a\nb", "a\rb",
                                  "a\\b", "\ufeffa", "a\0", "\udcff", ""])  # fmt: skip
def test_what_can_be_listed_is_what_reads_back(tmp_path, path):
    (tmp_path / "list.txt").write_bytes(f"{path}\n".encode(errors="surrogateescape"))
    try:
        back = [listed_path(line) for line in read_lines(tmp_path / "list.txt")] == [path]
    except DataError:
        back = False
    # A mark at the start of the file is taken for that of the file.
    assert can_be_listed(path) == back
