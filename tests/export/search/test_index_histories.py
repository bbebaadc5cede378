"""Random histories of an index against a dictionary: no item is lost, none comes back."""

import pytest

pytest.importorskip("faiss", reason="faiss is not installed")

from benchmarks.index_histories import histories


@pytest.mark.parametrize("seed", range(3))
def test_random_histories_match_a_dictionary(tmp_path, seed):
    assert histories(tmp_path / "index", operations=60, seed=seed)["wrong"] == 0
