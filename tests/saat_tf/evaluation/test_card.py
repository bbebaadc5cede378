"""Cards: rows, look-up, versions."""

import importlib.metadata

import numpy as np
import pytest

from saat_tf.evaluation import RetrievalReport, peak_rss_mb, result_value, results, versions

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


def test_peak_memory_is_in_megabytes():
    assert 50 < peak_rss_mb() < 200_000
