"""The inner attacks' benchmark at a tiny scale, and what its table and picture are made of."""

import dataclasses
import json
from pathlib import Path

import keras
import pytest

from benchmarks.inner import __main__ as inner
from benchmarks.inner.__main__ import InnerBenchmarkOptions, chosen_cells, main, read_card
from benchmarks.inner.cells import KINDS, SCALES_OF, Scale, data_of, points, recipe_of
from benchmarks.inner.page import difference_text, markdown, seconds_to
from benchmarks.inner.run_cell import Snapshots
from saat_tf.command_line import USAGE_ERROR
from saat_tf.data import DataError
from trainers.recipes.inner_options import InnerName

pytestmark = pytest.mark.slow  # its fixtures take most of the time

TINY = {"scenes": Scale(image_size=16, num_train=128, num_queries=6, pretrain_epochs=1, epochs=2)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A card with the undefended model and one inner attack, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("inner")
    options = InnerBenchmarkOptions(
        out=folder / "docs", runs_dir=folder / "runs", only=("scenes/undefended", "scenes/n-fgsm")
    )
    assert main(options, TINY, attack_steps=1) == 0
    return options, json.loads((folder / "docs/results/inner.json").read_text())


@pytest.mark.slow
def test_a_cell_has_a_curve_whose_seconds_rise_and_scores_at_its_end(made):
    options, card = made
    cell = card["cells"]["scenes"]["n-fgsm"]
    first, last = cell["curve"]
    assert (first["epoch"], last["epoch"]) == (1, 2) and 0 < first["seconds"] < last["seconds"]
    assert last["clean"] == cell["clean"] and last["mainstay"] == cell["mainstay"]
    assert cell["worst"] <= min(cell["mainstay"], cell["auto"], cell["clean"]) + 1e-9
    assert len(cell["worst_average_precisions"]) == 6 and cell["options"] == KINDS["n-fgsm"]
    assert (options.out / "pictures/inner.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_made_is_not_made_again_and_figures_of_other_settings_are_refused(made, monkeypatch, capsys):
    options, card = made
    monkeypatch.setattr(inner, "add_cell", lambda *_: pytest.fail("made again"))
    assert main(options, TINY, attack_steps=1) == 0
    assert "| n-fgsm |" in capsys.readouterr().out
    assert main(dataclasses.replace(options, seed=1), TINY, attack_steps=1) == USAGE_ERROR
    assert "figures of other settings" in capsys.readouterr().err
    file = options.out / "results/inner.json"
    cells = {"scenes": {"n-fgsm": {**card["cells"]["scenes"]["n-fgsm"], "options": {"inner": "free"}}}}
    file.write_text(json.dumps({**card, "cells": cells}))
    assert main(options, TINY, attack_steps=1) == USAGE_ERROR
    assert "scenes/n-fgsm had other options" in capsys.readouterr().err
    file.write_text(json.dumps(card))


def test_the_page_of_performance_has_the_tables_that_the_stored_card_gives():
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "performance.md").read_text(encoding="utf-8")
    for cells in json.loads((docs / "results/inner.json").read_text())["cells"].values():
        assert f"\n\n{markdown(cells)}\n" in page


def test_cells_are_chosen_by_pattern_and_corel_needs_its_images(tmp_path):
    assert chosen_cells(InnerBenchmarkOptions(only=("*/free", "scenes/und*"))) == [
        ("scenes", "undefended"), ("scenes", "free")
    ]  # fmt: skip
    assert ("corel5k", "free") in chosen_cells(InnerBenchmarkOptions(data_dir=tmp_path))
    with pytest.raises(DataError, match="Corel-5K needs --data-dir"):
        chosen_cells(InnerBenchmarkOptions(only=("corel5k/*",)))


def test_every_inner_attack_is_measured_and_batches_are_whole():
    assert {options["inner"] for options in KINDS.values()} == set(InnerName.__args__)
    for data_name, scale in SCALES_OF.items():
        recipe = recipe_of(data_name, "pgd", scale, data_dir=None, seed=0)
        assert scale.num_train % recipe.batch_size == 0 and recipe.num_steps == 7
        assert points(recipe) == [4, 6, 8]


@pytest.mark.slow
def test_held_out_queries_are_not_trained_on():
    data = data_of("scenes", TINY["scenes"], data_dir=None, seed=0)
    assert (len(data.train), len(data.database), len(data.test)) == (128, 128, 6)
    seen = {data.train.load(i).numpy().tobytes() for i in range(128)}
    assert not seen & {data.test.load(i).numpy().tobytes() for i in range(6)}


def test_the_first_step_counts_as_the_median_of_the_others():
    snapshots = Snapshots([1])
    snapshots.set_model(type("Model", (keras.Model,), {"encoder": keras.Sequential()})())
    snapshots.times = [(60.0, 50.0), (1.0, 2.0), (3.0, 2.0), (2.0, 2.0)]
    snapshots.on_epoch_end(0)
    assert (snapshots.kept[0]["seconds"], snapshots.kept[0]["core_seconds"]) == (8.0, 8.0)


@pytest.mark.parametrize(
    "target, expected", [(0.1, 0.0), (0.2, 5.0), (0.3, 10.0), (0.4, 15.0), (0.5, 20.0), (0.51, None)]
)
def test_seconds_to_a_robust_map_are_on_the_straight_lines_of_the_curve(target, expected):
    curve = [{"core_seconds": 10.0, "mainstay": 0.3}, {"core_seconds": 20.0, "mainstay": 0.5}]
    assert seconds_to(target, curve, 0.1) == (None if expected is None else pytest.approx(expected))


def cell(seconds, robust, worst):
    curve = [{"epoch": 1, "seconds": seconds, "core_seconds": 2 * seconds, "clean": 0.6, "mainstay": robust}]
    aps = [worst - 0.1, worst + 0.1]
    figures = {"clean": 0.6, "ideal": 0.1, "mainstay": robust, "auto": robust, "worst": worst}
    return {"curve": curve, **figures, "worst_interval": aps, "worst_average_precisions": aps}


def test_the_table_compares_with_seven_steps_query_by_query():
    undefended = {**cell(0, 0.1, 0.1), "clean": 0.7}
    del undefended["curve"]
    cells = {"undefended": undefended, "pgd": cell(100.0, 0.4, 0.4), "n-fgsm": cell(25.0, 0.5, 0.43)}
    line = markdown(cells).splitlines()[-1].split(" | ")
    # kept (0.43 - 0.1) / (0.7 - 0.1); both queries differ by 0.03; 0.4 is three quarters of the way from 0.1 to 0.5
    assert line[5:] == ["0.55", "+0.030 (+0.030, +0.030)", "50", "4.0", "38 |"]
    assert difference_text(cells["pgd"], cells["n-fgsm"]) == "-0.030 (-0.030, -0.030)"


def test_damaged_figures_are_named(tmp_path):
    file = tmp_path / "inner.json"
    for text, message in (
        ("[" * 100_000, "it is nested in more than 100 levels"),
        ("5", "expected a JSON object. Received: int"),
        ('{"setting": {}, "chance_map": {}, "cells": {"scenes": [1]}}', "scenes: all lack figures"),
        ('{"setting": {}, "chance_map": {}, "cells": {"scenes": {"pgd": 1}}}', "scenes: pgd lack figures"),
    ):
        file.write_text(text)
        with pytest.raises(DataError) as caught:
            read_card(file, {}, 0, 100)
        assert str(caught.value).startswith(f"{file}:") and message in str(caught.value)
