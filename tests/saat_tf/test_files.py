"""A file is the old one or the new one, never half of one; one process at a time writes in a locked folder."""

import errno
import json
import multiprocessing
import os
import signal

import numpy as np
import pytest

from saat_tf.files import LOCK, atomic, lock_folder, write_json, write_whole


def test_json_is_written_and_replaced(tmp_path):
    write_json(tmp_path / "card.json", {"value": 1})
    write_json(tmp_path / "card.json", {"value": 2})
    assert json.loads((tmp_path / "card.json").read_text()) == {"value": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), np.float64("nan")])
def test_what_is_no_json_is_not_written(tmp_path, value):
    write_json(tmp_path / "card.json", {"value": 1})
    with pytest.raises(ValueError, match=r"card\.json: not written, since NaN and infinity are no JSON"):
        write_json(tmp_path / "card.json", {"results": [{"value": value}]})
    assert json.loads((tmp_path / "card.json").read_text()) == {"value": 1}
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


def test_a_folder_is_made_whole_and_an_existing_one_stays(tmp_path):
    for _ in range(2):
        try:
            with atomic(tmp_path / "model") as folder:
                folder.mkdir()
                (folder / "weights").write_text("all")
        except OSError as error:
            assert error.errno in (errno.ENOTEMPTY, errno.EEXIST)
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["model", "model/weights"]


def test_links_are_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "card.json").symlink_to(victim)
    write_json(tmp_path / "card.json", {"value": 1})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(victim)
    with pytest.raises(OSError):
        lock_folder(tmp_path / "run")
    (tmp_path / "hard").mkdir()
    os.link(victim, tmp_path / "hard" / LOCK)
    with lock_folder(tmp_path / "hard"):
        pass
    assert victim.read_text() == "precious"
    assert not (tmp_path / "card.json").is_symlink()


def _lock_until_killed(folder, locked):
    lock = lock_folder(folder)
    locked.set()
    signal.pause()
    lock.release()


def test_a_lock_excludes_other_processes_until_its_own_ends_however_that_is(tmp_path):
    context = multiprocessing.get_context("spawn")
    locked = context.Event()
    process = context.Process(target=_lock_until_killed, args=(tmp_path, locked))
    process.start()
    assert locked.wait(60)
    with pytest.raises(BlockingIOError, match="another process writes here"):
        lock_folder(tmp_path)
    waited = []

    def kill():
        waited.append(True)
        process.kill()

    with lock_folder(tmp_path, waiting=kill):
        assert waited == [True]
    process.join()
