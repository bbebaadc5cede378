"""Histories of an index against a dictionary: no item is lost, none comes back."""

import numpy as np
import pytest

pytest.importorskip("faiss", reason="faiss is not installed")

from export.search import Block, FaissIndex, faiss_index, kinds
from tests.stress.index_histories import histories, killed

WITHOUT_KILLS = {"add": 0.45, "remove": 0.4, "open": 0.1, "damage": 0.05}


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_random_histories_match_a_dictionary(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(kinds, "build", kinds.build)
    monkeypatch.setattr(faiss_index, "CHANGES", 7)
    assert histories(tmp_path / "index", 80, 0, kind, WITHOUT_KILLS)["wrong"] == 0


def items(start, end):
    ids = [str(i) for i in range(start, end)]
    return Block(np.arange(2 * len(ids), dtype=np.uint8).reshape(-1, 2), ids, [{}] * len(ids))


def found(index):
    return {hit.id for hit in index.search(np.zeros((1, 2), np.uint8), np.int64(1000))[0]}


def test_removing_again_from_what_was_removed_from_resurrects_nothing(tmp_path):
    index = FaissIndex.create(tmp_path / "index", [items(0, 100)], code_length=16)
    index.add([items(100, 140)])
    index.remove([str(i) for i in [*range(30), *range(100, 112)]])
    index.remove(["40", "120"])
    index.remove(["41"])
    left = {str(i) for i in [*range(30, 100), *range(112, 140)] if i not in (40, 41, 120)}
    assert len(left) == 95
    for opened in (index, FaissIndex(index.folder)):
        assert len(opened) == 95 and found(opened) == left


@pytest.mark.slow
@pytest.mark.parametrize("removed", [[], [str(i) for i in range(10)]], ids=["add", "remove"])
@pytest.mark.parametrize("step", [5, 60, 150, 300, 100_000])
def test_a_killed_change_is_made_whole_or_not_at_all(tmp_path, removed, step):
    """The steps lie in the change, in its commit and in the cache that is built after it; the last is none of it."""
    index = FaissIndex.create(tmp_path / "index", [items(0, 40)], code_length=16)
    before, new = found(index), {f"new {i}": [i, i] for i in range(10)}
    after = before - set(removed) if removed else before | set(new)
    reported = killed(index.folder, new, removed, step)
    assert found(index) in ([after] if reported else [before, after])
    assert (found(index) == before) if step <= 60 else (reported or step < 100_000)
    index.check()
    index.add([Block(np.zeros((1, 2), np.uint8), ["last"], [{}])])
    assert "last" in found(FaissIndex(index.folder))
