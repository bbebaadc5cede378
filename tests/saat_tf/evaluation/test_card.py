"""Cards: rows, look-up, versions."""

import importlib.metadata
import re
import subprocess
import sys

import numpy as np
import pytest

from saat_tf.evaluation import RetrievalReport, peak_rss_mb, result_value, results, versions
from saat_tf.evaluation.card import commit

REPORT = RetrievalReport(0.8, 0.1, 0.05, 0.3, *[np.zeros((1, 2), np.uint8)] * 3, np.zeros((0, 8, 8, 3), np.float32))


def test_a_report_becomes_one_row_for_each_attack():
    rows = results(REPORT, defense="saat", top_k=50)
    assert [(row["attack"], row["value"]) for row in rows] == [("none", 0.8), ("mainstay", 0.1), ("ideal", 0.05)]
    assert {(row["defense"], row["metric"], row["top_k"], row["tie_rule"]) for row in rows} == {
        ("saat", "MAP", 50, "stable")
    }


def test_a_value_is_found_by_defense_and_attack():
    card = {"results": results(REPORT, defense="none", top_k=50)}
    assert result_value(card, defense="none", attack="mainstay") == 0.1
    with pytest.raises(KeyError, match="saat"):
        result_value(card, defense="saat", attack="mainstay")


def test_versions_are_those_installed():
    found = versions()
    assert found["tensorflow"] == importlib.metadata.version("tensorflow")
    assert found["saat_tf"] == importlib.metadata.version("saat-tf")


@pytest.fixture
def repository(tmp_path):
    """A repository with a package, a dependency that it ignores, and nothing in its history that is anybody's."""

    def git(*arguments):
        who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", "-C", tmp_path, *who, *arguments], capture_output=True, text=True, check=True)

    for package in ("mine", "installed"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    git("init", "--quiet")
    git("add", "mine")
    git("commit", "--quiet", "--message", "Begin")
    git("tag", "v1")
    return tmp_path, git("rev-parse", "HEAD").stdout.strip()


def test_a_commit_is_that_of_the_code_and_says_where_the_code_differs(repository):
    folder, head = repository
    assert re.fullmatch("[0-9a-f]{40}", head) and commit(folder / "mine") == head
    (folder / "mine" / "__init__.py").write_text("changed = True")
    assert commit(folder / "mine") == f"{head}-dirty"


def test_code_that_is_not_in_the_repository_around_it_has_no_commit(repository, tmp_path_factory):
    folder, _ = repository
    assert commit(folder / "installed") is None
    assert commit(tmp_path_factory.mktemp("outside")) is None
    assert commit(folder / "absent") is None


def test_peak_memory_is_in_megabytes():
    assert 50 < peak_rss_mb() < 200_000


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a process is told by its own peak alone")
def test_peak_memory_is_not_that_of_the_process_that_started_this_one():
    own = "from saat_tf.evaluation import peak_rss_mb; print(peak_rss_mb())"
    large = f"import subprocess, sys; held = b'1' * 2**31; subprocess.run([sys.executable, '-c', {own!r}], check=True)"
    done = subprocess.run([sys.executable, "-c", large], capture_output=True, text=True, check=True, timeout=120)
    assert 50 < float(done.stdout) < 2048
