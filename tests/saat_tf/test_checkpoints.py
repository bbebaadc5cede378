"""Checkpoints: whole or not at all, few, and none that is damaged is taken for good."""

import errno
import hashlib
import json
import os
import resource

import numpy as np
import pytest

from saat_tf import checkpoints
from saat_tf.checkpoints import newest_checkpoint, read_checkpoint, save_checkpoint

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.int64), np.zeros((0, 4), np.uint32)]


def names(root):
    return sorted(path.name for path in root.iterdir())


def test_a_checkpoint_gives_back_its_arrays_and_facts_bit_for_bit(tmp_path):
    folder = save_checkpoint(tmp_path / "new", 3, ARRAYS, {"epoch": 1, "words": ["é"]})
    found = read_checkpoint(folder)
    assert found.facts == {"epoch": 1, "words": ["é"]}
    for array, expected in zip(found.arrays, ARRAYS, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_the_newest_two_are_kept_and_leftovers_are_swept(tmp_path):
    (tmp_path / ".writing-0000000009").mkdir()
    (tmp_path / ".writing-0000000009" / "arrays.npz").write_bytes(b"half")
    for number in range(8, 12):
        save_checkpoint(tmp_path, number, ARRAYS, {})
    assert names(tmp_path) == ["0000000010", "0000000011"]
    assert newest_checkpoint(tmp_path / "none") == (None, [])


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


@pytest.mark.parametrize("file", ["arrays.npz", "facts.json", "manifest.json"])
@pytest.mark.parametrize("damage", [cut, flip_a_bit, empty, remove])
def test_damage_is_noticed_and_the_checkpoint_before_is_used(tmp_path, file, damage):
    for number in (1, 2):
        folder = save_checkpoint(tmp_path, number, ARRAYS, {"number": number})
    damage(folder / file)
    found, damaged = newest_checkpoint(tmp_path)
    assert found.facts == {"number": 1}
    assert len(damaged) == 1 and str(folder) in damaged[0]
    with pytest.raises(ValueError, match=r"damaged|missing|changed"):
        read_checkpoint(folder)


TEXTS = {
    "nested": ("[" * 100_000, "no JSON that is read here (it is nested in more than 100 levels). It is damaged."),
    "a list": ("[1]", "expected a JSON object. Received: list. It is damaged."),
    "no JSON": ('{"a": NaN}', "no JSON that is read here (it contains NaN, Infinity or a number beyond float64)"),
}


@pytest.mark.parametrize("file", ["facts.json", "manifest.json"])
@pytest.mark.parametrize("text, message", TEXTS.values(), ids=TEXTS)
def test_what_is_no_object_is_named(tmp_path, file, text, message):
    folder = save_checkpoint(tmp_path, 1, ARRAYS, {})
    (folder / file).write_text(text)
    if file == "facts.json":  # with a manifest that vouches for it
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest[file] = hashlib.sha256(text.encode()).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(manifest))
    found, damaged = newest_checkpoint(tmp_path)
    assert found is None and damaged[0].startswith(f"{folder / file}: {message}")


def test_a_manifest_without_a_digest_is_named(tmp_path):
    folder = save_checkpoint(tmp_path, 1, ARRAYS, {})
    (folder / "manifest.json").write_text('{"arrays.npz": 5}')
    with pytest.raises(ValueError, match=r"manifest\.json: arrays\.npz, facts\.json missing or of another type"):
        read_checkpoint(folder)


def test_a_pickle_inside_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path, 1, [np.array([{"a": 1}], dtype=object)], {})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_checkpoint(folder)


@pytest.mark.parametrize("call", ["savez", "fsync", "replace"])
def test_a_full_disk_is_an_error_that_leaves_the_checkpoint_before(tmp_path, monkeypatch, call):
    save_checkpoint(tmp_path, 1, ARRAYS, {"number": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints.np if call == "savez" else checkpoints.os, call, full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, 2, ARRAYS, {})
    assert names(tmp_path) == ["0000000001"]
    assert newest_checkpoint(tmp_path)[0].facts == {"number": 1}


def test_a_file_that_the_system_lets_grow_no_further_is_an_error_that_leaves_the_checkpoint_before(tmp_path):
    save_checkpoint(tmp_path, 1, ARRAYS, {"number": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            save_checkpoint(tmp_path, 2, [np.zeros(100_000)], {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["0000000001"]
    assert json.loads((tmp_path / "0000000001" / "facts.json").read_text()) == {"number": 1}
