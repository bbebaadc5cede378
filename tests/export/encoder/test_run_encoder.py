"""The encoder of a run: loaded without running code, with a card that says what made it."""

import json

import keras
import pytest

from export.encoder.run_encoder import load_encoder
from saat_tf.models import HashingModel

ROW = {"attack": "none", "metric": "MAP", "top_k": 10, "value": 0.5}
CARD = {
    "dataset": "drawn",
    "backbone": "small_cnn",
    "code_length": 8,
    "epsilon_255": 8.0,
    "chance_map": 0.1,
    "config": {"image_size": 16, "crop_fraction": 0.8},
    "versions": {"saat_tf": "0.1.0", "commit": "a" * 40},
    "results": [{**ROW, "defense": "none"}, {**ROW, "defense": "saat", "value": 0.4}],
}


@pytest.fixture
def run_dir(tmp_path):
    HashingModel("small_cnn", 8, 16).save(tmp_path / "robust.keras")
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    return tmp_path


def test_an_encoder_comes_with_its_own_results_and_how_its_input_is_made(run_dir):
    encoder, card = load_encoder(run_dir, "robust")
    assert encoder.code_length == 8
    assert [row["value"] for row in card["results"]] == [0.4]
    assert (card["preprocessing"]["image_size"], card["preprocessing"]["resize_size"]) == (16, 20)


def test_a_card_names_the_commit_that_trained_or_says_that_it_is_not_known(run_dir):
    assert load_encoder(run_dir, "robust")[1]["trained_with"]["commit"] == "a" * 40
    (run_dir / "card.json").write_text(json.dumps({**CARD, "versions": {"saat_tf": "0.1.0"}}))
    card = load_encoder(run_dir, "robust")[1]
    assert card["trained_with"] == {"saat_tf": "0.1.0", "commit": None}
    assert set(card["exported_with"]) >= {"saat_tf", "commit", "tensorflow", "keras"}


def test_code_in_a_model_file_is_refused_and_does_not_run(run_dir):
    trace = run_dir / "ran"
    layer = keras.layers.Lambda(lambda x, file=str(trace): [x, open(file, "w")][0])
    inputs = keras.Input((2,))
    keras.Model(inputs, layer(inputs)).save(run_dir / "robust.keras")
    trace.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="unsafe"):
        load_encoder(run_dir, "robust")
    assert not trace.exists()


def test_what_is_no_encoder_is_refused(run_dir):
    inputs = keras.Input((2,))
    keras.Model(inputs, inputs).save(run_dir / "robust.keras")
    with pytest.raises(ValueError, match="expected a HashingModel"):
        load_encoder(run_dir, "robust")


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_model_file_is_refused(run_dir, keep):
    file = run_dir / "robust.keras"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"robust\.keras"):
        load_encoder(run_dir, "robust")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": 3}', "[" * 100_000, json.dumps({**CARD, "results": 1})])
def test_a_card_of_another_kind_is_refused(run_dir, text):
    (run_dir / "card.json").write_text(text)
    with pytest.raises(ValueError, match=r"card\.json.* the card of a run"):
        load_encoder(run_dir, "robust")
