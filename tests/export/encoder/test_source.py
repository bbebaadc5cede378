"""The encoder of a run, a preset or a file: loaded without running code, with a card that says what made it."""

import json

import keras
import numpy as np
import pytest
import tyro

from export import saved_model
from export.encoder.source import EncoderSource
from saat_tf.models import HashingModel, presets

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
    encoder, card = EncoderSource(run_dir=run_dir).load()
    assert encoder.code_length == 8
    assert [row["value"] for row in card["results"]] == [0.4]
    assert (card["preprocessing"]["image_size"], card["preprocessing"]["resize_size"]) == (16, 20)


def test_a_card_names_the_commit_that_trained_or_says_that_it_is_not_known(run_dir):
    assert EncoderSource(run_dir=run_dir).load()[1]["trained_with"]["commit"] == "a" * 40
    (run_dir / "card.json").write_text(json.dumps({**CARD, "versions": {"saat_tf": "0.1.0"}}))
    card = EncoderSource(run_dir=run_dir).load()[1]
    assert card["trained_with"] == {"saat_tf": "0.1.0", "commit": None}
    assert set(card["exported_with"]) >= {"saat_tf", "commit", "tensorflow", "keras"}


def test_code_in_a_model_file_is_refused_and_does_not_run(run_dir):
    trace = run_dir / "ran"
    layer = keras.layers.Lambda(lambda x, file=str(trace): [x, open(file, "w")][0])
    inputs = keras.Input((2,))
    keras.Model(inputs, layer(inputs)).save(run_dir / "robust.keras")
    trace.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="unsafe"):
        EncoderSource(run_dir=run_dir).load()
    assert not trace.exists()


def test_what_is_no_encoder_is_refused(run_dir):
    inputs = keras.Input((2,))
    keras.Model(inputs, inputs).save(run_dir / "robust.keras")
    with pytest.raises(ValueError, match="expected a HashingModel"):
        EncoderSource(run_dir=run_dir).load()


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_model_file_is_refused(run_dir, keep):
    file = run_dir / "robust.keras"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"robust\.keras"):
        EncoderSource(run_dir=run_dir).load()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": 3}', "[" * 100_000, json.dumps({**CARD, "results": 1})])
def test_a_card_of_another_kind_is_refused(run_dir, text):
    (run_dir / "card.json").write_text(text)
    with pytest.raises(ValueError, match=r"card\.json.* the card of a run"):
        EncoderSource(run_dir=run_dir).load()


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    return HashingModel(keras.Sequential([keras.Input((8, 12, 3)), keras.layers.Conv2D(4, 3)], name="mine"), 8)


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    """A preset's folder and a .keras file of one encoder of 8 x 12 pixels."""
    folder = tmp_path_factory.mktemp("files")
    trained.save(folder / "mine.keras")
    trained.save_to_preset(folder / "mine", card={"about": "a test"}, dtype="float32")
    return folder


@pytest.mark.parametrize("options", [{"preset": "mine"}, {"keras_file": "mine.keras"}])
def test_a_preset_and_a_file_give_the_encoder_and_say_where_it_is_from(trained, files, options):
    ((kind, name),) = options.items()
    where = str(files / name) if kind == "preset" else files / name
    encoder, card = EncoderSource(**{kind: where}).load()
    images = np.random.default_rng(0).random((5, 8, 12, 3), np.float32)
    np.testing.assert_array_equal(encoder.encode(images), trained.encode(images))
    assert (card["backbone"], card["code_length"]) == ("mine", 8)
    assert (card["preprocessing"]["image_size"], card["preprocessing"]["resize_size"]) == ((8, 12), (8, 12))
    if kind == "preset":
        assert card["source"]["preset"] == where and card["source"]["card"]["about"] == "a test"
    else:
        assert card["source"] == {"file": "mine.keras"}
    assert EncoderSource(**{kind: where}, resize_size=14).load()[1]["preprocessing"]["resize_size"] == 14


def test_a_preset_of_the_package_goes_by_its_name():
    encoder, card = EncoderSource(preset="scenes_32bits_undefended").load()
    assert encoder.code_length == card["code_length"] == 32
    assert card["source"]["card"] == presets()["scenes_32bits_undefended"]


def test_what_names_no_encoder_is_refused(run_dir, files):
    preset, file = str(files / "mine"), files / "mine.keras"
    cases = [
        ({}, r"One of --run-dir, --preset and --keras-file must name the encoder\. Received: none"),
        ({"preset": preset, "keras_file": file}, "Received: --preset and --keras-file"),
        ({"run_dir": run_dir, "resize_size": 20}, "--resize-size is that of the run"),
        ({"preset": preset, "resize_size": 10}, "at least the encoder's 12 pixels. Received: 10"),
        ({"preset": "unheard_of"}, "A preset is one of .*Received: 'unheard_of'"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            EncoderSource(**options).load()
    with pytest.raises(FileNotFoundError, match=r"--keras-file must name one that HashingModel\.save wrote"):
        EncoderSource(keras_file=files / "other.keras").load()


def test_the_program_exports_what_the_options_name(files, tmp_path, monkeypatch, capsys):
    exported = {}
    monkeypatch.setattr(
        saved_model, "export_saved_model", lambda encoder, out, **options: exported.update(options, out=out)
    )
    options = tyro.cli(
        saved_model.SavedModelExport,
        args=[
            "--keras-file",
            str(files / "mine.keras"),
            "--resize-size",
            "14",
            "--out",
            str(tmp_path),
            "--version",
            "2",
        ],
    )
    assert saved_model.main(options) == 0
    assert (exported["resize_size"], exported["apply_orientation"], exported["out"]) == (14, True, tmp_path / "2")
    assert exported["card"]["source"] == {"file": "mine.keras"}
    assert "8-bit encoder of 8 x 12 images" in capsys.readouterr().out
    assert saved_model.main(saved_model.SavedModelExport(out=tmp_path)) == 2
    assert "error: One of --run-dir, --preset and --keras-file" in capsys.readouterr().err
