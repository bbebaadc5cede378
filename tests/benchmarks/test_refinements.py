"""What the refinements' benchmark keeps, refuses and prints; the trainings themselves are those of the tables."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks import refinements
from benchmarks.refinements import TRIALS, held_out_data, markdown, read_figures
from benchmarks.tables.cells import SCALES
from saat_tf.data import DataError, ImageList, ImageLists

SCALE = SCALES["small"]


@dataclasses.dataclass(frozen=True)
class DataOf:
    """As much of a data set of files as is looked at."""

    lists: ImageLists
    test: object = None
    database: object = None


def row(clean, worst, ideal=0.1, options=None):
    attacks = dict.fromkeys(refinements.EVALUATION_ATTACKS, worst + 0.01)
    return {"options": options or {}, "clean": clean, "ideal": ideal, "worst": worst, **attacks}


def test_the_table_scores_the_worst_case_against_the_undefended_model():
    card = {"chance_map": 0.2, "trials": {"undefended": row(0.5, 0.1), "weighted": row(0.4, 0.2)}}
    *_, line, _, chance = markdown(card).splitlines()
    assert line == "| weighted | 0.400 | 0.210 | 0.210 | 0.210 | 0.200 | 0.25 |"  # (0.2 - 0.1) / (0.5 - 0.1)
    assert chance == "Chance 0.200."


def test_without_the_undefended_model_there_is_no_kept_share():
    assert "| weighted | 0.400 | 0.210 | 0.210 | 0.210 | 0.200 | - |" in markdown(
        {"chance_map": 0.2, "trials": {"weighted": row(0.4, 0.2)}}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": {}}, "figures of other settings"),
        ({"trials": {"weighted": row(0.4, 0.2, options={"learning_rate": 1.0})}}, "weighted had other options"),
    ],
)
def test_figures_of_other_settings_are_not_added_to(tmp_path, change, message):
    file = tmp_path / "refinements.json"
    fresh = read_figures(file, SCALE, 0)
    file.write_text(json.dumps({**fresh, "trials": {"weighted": row(0.4, 0.2, options=TRIALS["weighted"])}}))
    assert read_figures(file, SCALE, 0)["trials"].keys() == {"weighted"}
    file.write_text(json.dumps({**fresh, **change}))
    with pytest.raises(DataError, match=message):
        read_figures(file, SCALE, 0)


DAMAGED = {
    "nested": ("[" * 100_000, "it is nested in more than 100 levels"),
    "half": ('{"setting": {', "1: not whole JSON"),
    "a list": ("[]", "expected a JSON object. Received: list"),
    "no trials": ('{"setting": {}, "trials": 5}', "trials missing or of another type"),
    "a trial without figures": ('{"setting": {}, "trials": {"weighted": {"options": {}}}}', "weighted lack figures"),
}


@pytest.mark.parametrize("text, message", DAMAGED.values(), ids=DAMAGED)
def test_damaged_figures_are_named(tmp_path, text, message):
    file = tmp_path / "refinements.json"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_figures(file, SCALE, 0)
    assert str(caught.value).startswith(f"{file}:") and message in str(caught.value)
    assert str(caught.value).endswith("Restore it, or remove it and measure again.")


def test_held_out_queries_are_neither_trained_on_nor_found(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.jpg" for i in range(30)]

    def images(name, places):
        return ImageList(name, tuple(paths[i] for i in places), np.ones((len(places), 1)), tuple(places))

    def spread(data_dir, scale):
        train = images("train", range(20)[: scale.num_train])
        lists = ImageLists(train, images("database", range(25)), images("test", range(25, 30)))
        return DataOf(lists)

    monkeypatch.setattr(refinements, "spread_data", spread)
    data = held_out_data.__wrapped__(tmp_path, dataclasses.replace(SCALE, num_train=12, num_queries=4))
    train, database, queries = (
        {path.name for path in images.paths} for images in (data.lists.train, data.lists.database, data.lists.test)
    )
    assert train == {f"{i}.jpg" for i in range(12)} and len(queries) == 4
    assert queries < {f"{i}.jpg" for i in range(12, 20)} and database == {f"{i}.jpg" for i in range(25)} - queries
