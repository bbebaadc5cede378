"""Stopping early in an evaluation: the figure stays, and files and rows of the two ways are kept apart."""

import dataclasses
import json
import shutil

import keras
import pytest

from saat_tf.attacks import mainstay_attack
from saat_tf.data import RetrievalData, array_split, draw_scenes
from saat_tf.evaluation import encode_data, knowledge
from saat_tf.evaluation.attacked import AttackedQueries, attack_queries
from saat_tf.metrics import mean_average_precision
from trainers.evaluate import EvaluationOptions, main

MAP_TOLERANCE = 0.005


@pytest.mark.slow
@pytest.mark.parametrize("file", ["hashing.keras", "robust.keras"])
def test_map_is_that_of_all_steps(scenes_run, file):
    encoder = keras.saving.load_model(scenes_run[0] / file)
    size = encoder.image_size
    train, queries = draw_scenes(96, image_size=size, seed=0), draw_scenes(48, image_size=size, seed=1)
    database = array_split(train.images, train.labels)
    data = RetrievalData(
        "scenes", [str(i) for i in range(10)], database, database, array_split(queries.images, queries.labels)
    )
    encoded = encode_data(encoder, data)
    attack = mainstay_attack(8 / 255, knowledge(encoded, data).train, num_steps=100)

    def attacked(early_stop):
        return attack_queries(encoder, data.test, attack, data.test.labels, num_steps=100, early_stop=early_stop)

    def score(result):
        return mean_average_precision(result.codes[0], encoded.database, data.test.labels, database.labels)

    whole, early = attacked(False), attacked(True)
    assert whole.mean_steps is None and 10 <= early.mean_steps < 100
    assert score(early) == pytest.approx(score(whole), abs=MAP_TOLERANCE)
    assert score(whole) < mean_average_precision(encoded.test, encoded.database, data.test.labels, database.labels)


@pytest.mark.slow
def test_the_card_and_the_files_tell_the_two_ways_apart(scenes_run, tmp_path):
    run_dir = shutil.copytree(scenes_run[0], tmp_path / "run")
    options = EvaluationOptions(run_dir=run_dir, attacks=("mainstay", "hag"), num_steps=(20,), defenses=("saat",))
    options = dataclasses.replace(options, report=False)
    assert main(options) == 0
    assert main(dataclasses.replace(options, early_stop=True)) == 0
    rows = [row for row in json.loads((run_dir / "card.json").read_text())["results"] if "num_steps" in row]
    told = [(row["attack"], row.get("early_stop", False)) for row in rows]
    assert sorted(told) == [("hag", False), ("mainstay", False), ("mainstay", True), ("worst", False), ("worst", True)]
    folder = run_dir / "evaluation" / "saat"
    files = {file.name: AttackedQueries.load(file) for file in folder.glob("*.npz")}
    assert sorted(name.split("-")[0] for name in files) == ["hag", "mainstay", "mainstay"]
    (early,) = [one for name, one in files.items() if name.endswith("-early-stop.npz")]
    (row,) = [row for row in rows if row["attack"] == "mainstay" and row.get("early_stop")]
    assert row["mean_steps"] == round(early.mean_steps, 1) <= row["num_steps"] == 20
