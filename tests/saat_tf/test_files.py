"""A file is the old one or the new one, never half of one."""

import json

import pytest

from saat_tf.files import write_json, write_whole


def test_json_is_written_and_replaced(tmp_path):
    write_json(tmp_path / "card.json", {"value": 1})
    write_json(tmp_path / "card.json", {"value": 2})
    assert json.loads((tmp_path / "card.json").read_text()) == {"value": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "model.keras").write_text("old")

    def break_off(path):
        assert path.suffix == ".keras"
        path.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "model.keras", break_off)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
