"""Certifying a finished run: rows, bits on disk, resuming, and bad input."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from saat_tf.data import draw_scenes
from saat_tf.evaluation.card import CERTIFIED
from trainers.certify import main
from trainers.recipes.certify_options import CertifyOptions
from trainers.runs import certificates

pytestmark = pytest.mark.slow

QUERIES = 4


@pytest.fixture
def run_dir(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def options(run_dir, **changes):
    few = CertifyOptions(
        run_dir=run_dir, method="ibp", epsilon_255=(0.01, 1.0), defenses=("none",), num_queries=QUERIES,
        draws=60, selection_draws=10, sigma=1.0, seconds=0.01, attack_steps=1, report=False,
    )  # fmt: skip
    return dataclasses.replace(few, **changes)


def certified_rows(run_dir):
    rows = json.loads((run_dir / "card.json").read_text())["results"]
    return [row for row in rows if row["attack"].startswith(CERTIFIED)]


@pytest.mark.parametrize("method", ["ibp", "smoothing", "margin"])
def test_rows_lie_between_nothing_and_the_clean_map_and_a_second_call_computes_nothing(run_dir, method, monkeypatch):
    before = json.loads((run_dir / "card.json").read_text())["results"]
    assert main(options(run_dir, method=method)) == 0
    rows = certified_rows(run_dir)
    assert json.loads((run_dir / "card.json").read_text())["results"][: len(before)] == before
    assert [(row["attack"], row["epsilon_255"]) for row in rows] == [
        (f"certified by {method}", 0.01), (f"certified by {method}", 1.0),
    ]  # fmt: skip
    for row in rows:
        assert 0 <= row["value"] <= min(row["attacked_map"], row["clean_map"])
        assert row["certified_bits"] == pytest.approx(16 * (1 - row["abstaining"]))
        assert (row["metric"], row["denominator"], row["tie_rule"]) == ("certified MAP", "relevant", "pessimistic")
        assert row["confidence"] == (0.999 if method == "smoothing" else 1.0)
        assert row.get("draws") == (60 if method == "smoothing" else None)
    assert rows[0]["value"] >= rows[1]["value"]
    for name in ("smoothed_votes", "certify"):
        monkeypatch.setattr(certificates, name, None)
    assert main(options(run_dir, method=method, attack_steps=0)) == 0
    again = certified_rows(run_dir)
    assert [row["certified_bits"] for row in again] == [row["certified_bits"] for row in rows]
    assert len(again) == len(rows)


def test_an_interrupted_certificate_resumes_to_the_same_votes(run_dir, monkeypatch):
    monkeypatch.setattr(certificates, "KEPT_EVERY", 1)
    sampled, calls = certificates.smoothed_votes, []

    def interrupted(*arguments, first, **rest):
        calls.append(first)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sampled(*arguments, first=first, **rest)

    smoothing = options(run_dir, method="smoothing", epsilon_255=(1.0,), attack_steps=0)
    monkeypatch.setattr(certificates, "smoothed_votes", interrupted)
    main(smoothing)
    assert calls == [0, 1, 2]
    assert main(smoothing) == 0
    assert calls == [0, 1, 2, 2, 3]
    (file,) = (run_dir / "certificates" / "none").glob("*.npz")
    with np.load(file) as stored:
        resumed = stored["part0"]
    file.unlink()
    assert main(smoothing) == 0
    with np.load(file) as stored:
        np.testing.assert_array_equal(stored["part0"], resumed)
    assert len(draw_scenes(QUERIES, seed=1).images) == len(resumed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon_255": (0.0,)}, "must be above 0"),
        ({"epsilon_255": ()}, "--epsilon-255 at least must be given"),
        ({"sigma": -1.0}, "`sigma` must be above 0"),
        ({"draws": 0}, "--draws"),
        ({"alpha": 1.0}, "--alpha in"),
        ({"defenses": ("cgat",)}, "The run has the models none, saat. Received: cgat"),
    ],
)
def test_bad_options_are_refused(run_dir, changes, message, capsys):
    assert main(options(run_dir, **changes)) == 2
    assert message in capsys.readouterr().err


def test_what_the_models_do_not_admit_is_refused(run_dir, capsys):
    for changes, message in [
        ({"method": "smoothing", "sigma": None}, "--sigma must be given"),
        ({"method": "smoothing", "sigma": 0.05}, "Draw at least"),
    ]:
        assert main(options(run_dir, **changes)) == 2
        assert message in capsys.readouterr().err
    assert main(options(run_dir, attack_steps=0, epsilon_255=(1.0,))) == 0
    file = run_dir / "certificates" / "none" / "ibp-eps1.npz"
    with np.load(file) as stored:
        changed = {**stored, "codes": ~stored["codes"]}
    np.savez(file, **changed)
    assert main(options(run_dir, epsilon_255=(1.0,))) == 2
    assert "other codes under this model" in capsys.readouterr().err
