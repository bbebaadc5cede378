"""The ways to run an attack, side by side on a model of a few weights."""

import keras
import pytest

from benchmarks.attack_speed import measure
from saat_tf.attacks import mainstay_attack
from saat_tf.data import RetrievalData, array_split, draw_scenes
from saat_tf.evaluation import encode_data, knowledge
from saat_tf.models import HashingModel
from trainers.runs.models import Evaluated


@pytest.mark.slow
def test_each_way_has_a_row_against_the_plain_loop():
    keras.utils.set_random_seed(0)
    encoder, scenes = HashingModel("small_cnn", 16, 16), draw_scenes(12, image_size=16)
    split = array_split(scenes.images, scenes.labels)
    data = RetrievalData("scenes", [str(i) for i in range(10)], split, split, split)
    encoded = encode_data(encoder, data)
    model = Evaluated("none", encoder, encoded, knowledge(encoded, data))
    attack = mainstay_attack(8 / 255, model.known.train, num_steps=20)
    plain, folded, early = measure(model, attack, data, top_k=12)
    assert [row["name"] for row in (plain, folded, early)] == [
        "none, mainstay, plain loop", "none, mainstay, folded", "none, mainstay, folded, early stop",
    ]  # fmt: skip
    assert (plain["ratio"], plain["map_difference"], plain["standard_error"]) == (1.0, 0.0, 0.0)
    for row in (folded, early):
        assert row["map"] - plain["map"] == pytest.approx(row["map_difference"], abs=1e-4)
    assert "mean_steps" not in folded and 10 <= early["mean_steps"] <= 20
