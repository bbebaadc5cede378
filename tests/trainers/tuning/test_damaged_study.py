"""A sweep whose files are damaged: the file is named, and there is no traceback."""

import json

import pytest

from saat_tf.data import DataError
from saat_tf.files import write_json
from trainers.recipes.scenes import ScenesRecipe
from trainers.tuning.search_algorithms import build_oracle
from trainers.tuning.search_space import read_space
from trainers.tuning.study import Study
from trainers.tuning.trial import read_card, read_failure

ROW = {"defense": "saat", "attack": "none", "value": 0.5, "interval": [0.4, 0.6]}
CARDS = {
    "nested": ("[" * 100_000, "nested in more than 100 levels"),
    "a list": ("[]", "Received: list"),
    "no seconds": (json.dumps({"results": [ROW]}), "seconds missing"),
    "a row of another type": (json.dumps({"results": [ROW, 5], "seconds": {}}), r"results\[1\] missing"),
    "a value of another type": (json.dumps({"results": [{**ROW, "value": "1"}], "seconds": {}}), r"results\[0\]"),
    "a value that is no number": (json.dumps({"results": [{**ROW, "value": float("nan")}], "seconds": {}}), "NaN"),
}


@pytest.mark.parametrize("text, message", CARDS.values(), ids=CARDS)
def test_a_damaged_card_is_named(tmp_path, text, message):
    assert read_card(tmp_path) is None
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(DataError, match=rf"card\.json: .*{message}.*Restore it, or remove the folder"):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "5", '{"cause": 5, "reason": ""}'], ids=["nested", "number", "type"])
def test_a_damaged_failure_is_named(tmp_path, text):
    (tmp_path / "failure.json").write_text(text)
    with pytest.raises(DataError, match=r"failure\.json: "):
        read_failure(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]"], ids=["nested", "list"])
def test_damaged_options_and_results_are_named(tmp_path, text):
    study = Study(tmp_path / "study")
    study.begin({"seed": 0})
    (study.folder / "study.json").write_text(text)
    with pytest.raises(DataError, match=r"study\.json: "):
        study.is_over()
    (study.folder / "options.json").write_text(text)
    with pytest.raises(DataError, match=r"options\.json: .*Restore it, or choose another --study-dir\."):
        study.begin({"seed": 0})


def oracle_in(folder):
    space = read_space(["epsilon-255=4,8"], ScenesRecipe())
    oracle = build_oracle("random", space, seed=0, epochs=1, cause_of=str, report=lambda *_: None)
    oracle._set_project_dir(folder, "oracle")
    return oracle


STATES = {
    "nested": ("[" * 100_000, r"{file}: no JSON that is read here .*nested"),
    "a list": ("[]", r"{file}: expected a JSON object"),
    "empty": ("{{}}", r"oracle: not the state of a search \((RuntimeError|KeyError): "),
}


@pytest.mark.parametrize("file", ["oracle.json", "trial_0/trial.json"])
@pytest.mark.parametrize("text, message", STATES.values(), ids=STATES)
def test_a_damaged_state_of_the_search_is_named(tmp_path, file, text, message):
    oracle = oracle_in(tmp_path)
    trial = oracle.create_trial("tuner0")
    oracle.save()
    again = oracle_in(tmp_path)
    again.reload()
    assert again.trials[trial.trial_id].hyperparameters.values == trial.hyperparameters.values
    (found,) = tmp_path.glob(f"oracle/{file.replace('trial_0', 'trial_*')}")
    found.write_text(text.format())
    with pytest.raises(DataError, match=message.replace("{file}", found.name)):
        oracle_in(tmp_path).reload()


def test_a_trial_whose_map_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"card\.json: not written, since NaN and infinity are no JSON"):
        write_json(tmp_path / "card.json", {"results": [{**ROW, "value": float("nan")}]})
    assert read_card(tmp_path) is None
