"""Readers of lists and an oracle agree on drawn inputs; so many that each kind is read and refused often."""

from benchmarks.fuzz_lists import KINDS, run


def test_readers_and_oracle_agree():
    counts, differences = run(400, seed=1)
    assert differences == []
    assert all(counts[kind, outcome] >= 10 for kind in KINDS for outcome in ("read", "refused")), counts
