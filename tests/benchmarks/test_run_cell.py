"""One cell for real, on small drawn pictures: its card, and that neither model nor attack is made twice."""

import dataclasses

import keras
import numpy as np
import pytest

from benchmarks.tables import run_cell
from benchmarks.tables.cells import SCALES, Cell
from benchmarks.tables.run_cell import make_card, read_card, setting_of
from saat_tf.data import CLASS_NAMES, RetrievalData, array_split, draw_scenes
from trainers import evaluate
from trainers.recipes.scenes import ScenesRecipe

SCALE, CELL = SCALES["small"], Cell(defense="none", bits=16)
TRAIN, QUERIES = draw_scenes(48, image_size=16, seed=0), draw_scenes(10, image_size=16, seed=1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    train, queries = (array_split(scenes.images, scenes.labels) for scenes in (TRAIN, QUERIES))
    recipe = ScenesRecipe(bits=16, image_size=16, pretrain_epochs=1)
    monkeypatch.setattr(
        run_cell, "spread_data", lambda data_dir, scale: RetrievalData("scenes", CLASS_NAMES, train, train, queries)
    )
    monkeypatch.setattr(run_cell, "recipe_of", lambda cell, scale, data_dir: recipe)
    monkeypatch.setattr(run_cell, "attacks_of", lambda cell, scale: {"mainstay": 2})


def mean_average_precision(codes, database_codes):
    values = []
    for code, labels in zip(codes, QUERIES.labels, strict=True):
        order = np.argsort((code != database_codes).sum(axis=1), kind="stable")
        hits = (TRAIN.labels[order] @ labels) > 0
        values.append(np.mean([hits[: i + 1].mean() for i in np.flatnonzero(hits)]) if hits.any() else 0.0)
    return np.mean(values)


@pytest.mark.slow
def test_a_cell_is_trained_attacked_and_kept(tmp_path, monkeypatch):
    file, runs = tmp_path / "card.json", tmp_path / "runs"
    make_card(CELL, SCALE, tmp_path, runs, file)
    card = read_card(file, setting_of(CELL, SCALE))
    assert [(row["attack"], row["metric"]) for row in card["results"]] == [
        ("none", "MAP"), ("ideal", "MAP"), ("mainstay", "MAP"),
    ]  # fmt: skip
    clean, _, attacked = card["results"]
    encoder = keras.saving.load_model(runs / CELL.name / "model.keras")
    codes, database_codes = (
        np.unpackbits(encoder.encode(scenes.images).numpy(), axis=1) for scenes in (QUERIES, TRAIN)
    )
    assert clean["value"] == pytest.approx(mean_average_precision(codes, database_codes))
    assert 0 < attacked["largest_change_255"] <= 8 and attacked["num_steps"] == 2
    assert card["sizes"] == {"train": 48, "database": 48, "queries": 10}
    shared = (QUERIES.labels @ TRAIN.labels.T > 0).mean()
    assert card["chance_map"] == pytest.approx(shared)

    def never(*args, **options):
        raise AssertionError("done again")

    monkeypatch.setattr(run_cell, "pretrain", never)
    monkeypatch.setattr(evaluate, "attack_queries", never)
    make_card(CELL, SCALE, tmp_path, runs, tmp_path / "again.json")
    again = read_card(tmp_path / "again.json", setting_of(CELL, SCALE))
    assert again["results"] == card["results"]
    assert dataclasses.asdict(CELL).items() <= again["setting"].items()
