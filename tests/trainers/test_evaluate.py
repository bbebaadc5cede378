"""Attacking a finished run again: rows, codes on disk, going on after a stop, and bad input."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from saat_tf.command_line import INTERRUPTED
from saat_tf.data import draw_scenes
from saat_tf.evaluation.attacked import AttackedQueries
from trainers import evaluate
from trainers.evaluate import EvaluationOptions, main
from trainers.runs import fitted_attacks

pytestmark = pytest.mark.slow

QUERIES = 10


@pytest.fixture
def run_dir(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def options(run_dir, **changes):
    few = EvaluationOptions(
        run_dir=run_dir, attacks=("mainstay", "hag"), num_steps=(2,), defenses=("saat",), report=False
    )
    return dataclasses.replace(few, **changes)


def rows_of(run_dir):
    return json.loads((run_dir / "card.json").read_text())["results"]


def precisions_by_hand(codes, database_codes, labels, database_labels):
    values = []
    for code, row in zip(codes, labels, strict=True):
        order = np.argsort((code != database_codes).sum(axis=1), kind="stable")
        hits = (database_labels[order] @ row) > 0
        values.append(np.mean([hits[: i + 1].mean() for i in np.flatnonzero(hits)]) if hits.any() else 0.0)
    return np.array(values)


def test_rows_are_added_and_follow_from_the_codes_on_disk(run_dir):
    before = rows_of(run_dir)
    assert main(options(run_dir, restarts=2)) == 0
    added = rows_of(run_dir)[len(before) :]
    assert rows_of(run_dir)[: len(before)] == before
    assert [(row["defense"], row["attack"]) for row in added] == [
        ("saat", "none"), ("saat", "mainstay"), ("saat", "hag"), ("saat", "worst"),
    ]  # fmt: skip

    database, queries = draw_scenes(96, seed=0), draw_scenes(QUERIES, seed=1)
    encoder = keras.saving.load_model(run_dir / "robust.keras")
    database_codes = np.unpackbits(encoder.encode(database.images).numpy(), axis=1)

    def precisions(packed):
        return precisions_by_hand(np.unpackbits(packed, axis=1), database_codes, queries.labels, database.labels)

    clean = precisions(encoder.encode(queries.images).numpy())
    files = sorted((run_dir / "evaluation" / "saat").glob("*.npz"))
    stored = {attacked.attack: attacked for attacked in map(AttackedQueries.load, files)}
    lowest = {name: np.min([precisions(codes) for codes in stored[name].codes], axis=0) for name in ("mainstay", "hag")}
    expected = [clean, lowest["mainstay"], lowest["hag"], np.min([clean, *lowest.values()], axis=0)]
    for row, values in zip(added, expected, strict=True):
        assert row["value"] == pytest.approx(values.mean())
        assert row["interval"][0] <= row["value"] <= row["interval"][1]
        assert (row["metric"], row["num_queries"], row["top_k"]) == ("MAP", QUERIES, 5000)
    assert added[1]["epsilon_255"] == 8.0 and added[1]["num_steps"] == 2 and added[1]["restarts"] == 2
    assert stored["mainstay"].codes.shape == (2, QUERIES, 2) and stored["mainstay"].seeds == (0, 1)
    linf = stored["mainstay"].perceptibility[0]
    assert (linf > 0).all() and (linf <= 8 / 255 + 1e-6).all()


def test_the_report_is_written_beside_the_card(run_dir):
    assert main(options(run_dir, report=True)) == 0
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    for text in ("undefended", "SAAT", "mainstay", "hag", "chance"):
        assert text in page
    assert list((run_dir / "figures").glob("*.svg"))


def test_every_combination_of_radius_and_steps_is_run(run_dir):
    assert main(options(run_dir, attacks=("mainstay",), epsilon_255=(2.0, 8.0), num_steps=(1, 2))) == 0
    settings = [(row["epsilon_255"], row["num_steps"]) for row in rows_of(run_dir) if "num_steps" in row]
    assert settings == [(2.0, 1), (2.0, 2), (8.0, 1), (8.0, 2)]


def test_without_steps_each_attack_takes_its_published_ones_and_the_worst_case_spans_them(run_dir):
    assert main(options(run_dir, attacks=("pta", "hag"), num_steps=())) == 0
    rows = {row["attack"]: row["num_steps"] for row in rows_of(run_dir) if "num_steps" in row}
    assert rows == {"pta": 20, "hag": 100, "worst": 100}


def test_the_robust_radius_is_that_at_which_the_worst_case_falls_to_chance(run_dir, monkeypatch, capsys):
    chance = json.loads((run_dir / "card.json").read_text())["chance_map"]
    tried = []

    def scored(asked, models, defense, data, top_k):
        (epsilon_255,) = asked.epsilon_255
        tried.append(epsilon_255)
        falls = {"saat": 13, "none": 1}[defense]
        about = {"defense": defense, "top_k": top_k, "interval": [0.0, 1.0], "epsilon_255": epsilon_255}
        worst = {"attack": "worst", "metric": "MAP", "value": chance + 0.1 if epsilon_255 < falls else chance}
        return [{**about, **row} for row in (worst, {"attack": "pta", "metric": "t-MAP", "value": 0.0})]

    monkeypatch.setattr(evaluate, "evaluate_model", scored)
    asked = options(run_dir, robust_radius=True, defenses=("none", "saat"), attacks=("mainstay", "pta"))
    assert main(asked) == main(asked) == 0  # the second call replaces the entries of the first
    assert tried[: len(tried) // 2] == [8, 1, 8, 1, 2, 4, 8, 16, 12, 14, 13]
    entries = json.loads((run_dir / "card.json").read_text())["robust_radius"]
    assert [(one["defense"], one["above_chance_255"], one["at_chance_255"]) for one in entries] == [
        ("none", 0, 1), ("saat", 12, 13),
    ]  # fmt: skip
    about = {"attacks": ["mainstay", "pta"], "num_steps": 2, "restarts": 1, "num_queries": QUERIES}
    assert all(entry.items() >= {**about, "chance_map": pytest.approx(chance)}.items() for entry in entries)
    assert "12/255" in capsys.readouterr().out


def test_a_second_call_attacks_nothing_again_and_adds_nothing(run_dir, monkeypatch):
    assert main(options(run_dir)) == 0
    first = rows_of(run_dir)
    monkeypatch.setattr(evaluate, "attack_queries", lambda *args, **kwargs: pytest.fail("attacked again"))
    assert main(options(run_dir)) == 0
    assert rows_of(run_dir) == first


def test_a_call_that_was_stopped_keeps_the_attacks_that_were_done(run_dir, monkeypatch):
    attack, called = evaluate.attack_queries, []

    def stopped(encoder, split, chosen, *args, **kwargs):
        called.append(chosen.name)
        if chosen.name == "hag":
            raise KeyboardInterrupt
        return attack(encoder, split, chosen, *args, **kwargs)

    monkeypatch.setattr(evaluate, "attack_queries", stopped)
    assert main(options(run_dir)) == INTERRUPTED
    monkeypatch.setattr(
        evaluate, "attack_queries", lambda e, s, a, *x, **k: called.append(a.name) or attack(e, s, a, *x, **k)
    )
    assert main(options(run_dir)) == 0
    assert called == ["mainstay", "hag", "hag"]


def test_a_targeted_attack_is_scored_by_its_targets(run_dir):
    assert main(options(run_dir, attacks=("p2p",))) == 0
    row = rows_of(run_dir)[-1]
    (file,) = (run_dir / "evaluation" / "saat").glob("*.npz")
    attacked = AttackedQueries.load(file)
    queries = draw_scenes(QUERIES, seed=1).labels
    assert row["metric"] == "t-MAP" and attacked.targeted
    assert not (attacked.labels * queries).any() and attacked.labels.any(axis=1).all()


def test_attacks_that_are_trained_first_are_kept_and_used_again(run_dir, monkeypatch):
    from_labels = fitted_attacks.ProSGAN.from_labels
    monkeypatch.setattr(fitted_attacks, "STEPS_PER_EPOCH", 5)
    monkeypatch.setattr(fitted_attacks.ProSGAN, "from_labels", lambda *a, **k: from_labels(*a, width=8, **k))
    trained = options(run_dir, attacks=("tha", "pros-gan"), fit_epochs=1)
    assert main(trained) == 0
    folder = run_dir / "evaluation" / "saat"
    assert len(list(folder.glob("*.keras"))) == 2
    assert [row["metric"] for row in rows_of(run_dir)[-2:]] == ["t-MAP", "t-MAP"]
    first = {file.name: AttackedQueries.load(file).codes for file in folder.glob("*.npz")}
    for file in folder.glob("*.npz"):
        file.unlink()
    monkeypatch.setattr(fitted_attacks, "fit_prototype_net", lambda *args, **kwargs: pytest.fail("fitted again"))
    assert main(trained) == 0
    for name, codes in first.items():
        np.testing.assert_array_equal(AttackedQueries.load(folder / name).codes, codes)


def test_a_surrogate_is_attacked_and_the_other_model_is_scored(run_dir):
    assert main(options(run_dir, attacks=("mainstay",), surrogate="none")) == 0
    assert main(options(run_dir, attacks=("mainstay",), defenses=("none",))) == 0
    assert rows_of(run_dir)[-3]["attack"] == "mainstay, transferred from none"
    (transferred,) = (run_dir / "evaluation" / "saat").glob("*-from-none.npz")
    (direct,) = (run_dir / "evaluation" / "none").glob("*.npz")
    # The same images, seen by two models.
    np.testing.assert_array_equal(AttackedQueries.load(transferred).images, AttackedQueries.load(direct).images)


BAD = {
    "an unknown attack": ({"attacks": ("strongest",)}, "standard, hag, sdha"),
    "no attack": ({"attacks": ()}, "--attacks must name at least one"),
    "a radius beyond the pixels": ({"epsilon_255": (256.0,)}, "256"),
    "no steps": ({"num_steps": (0,)}, "--num-steps"),
    "no restart": ({"restarts": 0}, "--restarts"),
    "a radius of several": ({"robust_radius": True, "epsilon_255": (4.0, 8.0)}, "--robust-radius goes with one"),
    "no query": ({"num_queries": 0}, "--num-queries"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_bad_options_are_refused_before_anything_is_loaded(tiny_run, changes, message, capsys):
    assert main(options(tiny_run, **changes)) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_card_is_refused(tmp_path, capsys):
    assert main(options(tmp_path)) == 2
    assert "finished run" in capsys.readouterr().err


def test_a_damaged_file_of_codes_is_named_and_not_trusted(run_dir, capsys):
    assert main(options(run_dir, attacks=("mainstay",))) == 0
    (file,) = (run_dir / "evaluation" / "saat").glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    before = (run_dir / "card.json").read_text()
    assert main(options(run_dir, attacks=("mainstay",))) == 2
    assert file.name in capsys.readouterr().err
    assert (run_dir / "card.json").read_text() == before
