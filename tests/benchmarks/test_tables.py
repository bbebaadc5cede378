"""The tables: names of cells, what is done again and what is not, and the page from cards made by hand."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.tables import __main__ as tables
from benchmarks.tables.cells import SCALES, Cell, all_cells, attacks_of, recipe_of
from benchmarks.tables.figures import kept_share
from benchmarks.tables.page import page, write_page
from benchmarks.tables.run_cell import read_card, setting_of, trained, training_setting_of
from saat_tf.command_line import USAGE_ERROR
from saat_tf.data import DataError, spread_indices
from saat_tf.models import HashingModel

SMALL = SCALES["small"]
CHANCE = 0.2


def card_of(cell, value=0.4, **by_attack):
    """Make a whole card: `value` for no attack, 0.1 for the ideal attack, else half, or what `by_attack` says."""
    rows = []
    for attack in ("none", "ideal", *attacks_of(cell, SMALL), "worst"):
        targeted = attack in ("p2p", "dhta", "tha", "mainstay-targeted")
        found = by_attack.get(attack, {"none": value, "ideal": 0.1}.get(attack, value / 2))
        rows.append({
            "defense": cell.defense, "attack": attack, "metric": "t-MAP" if targeted else "MAP", "value": found,
            "interval": [found - 0.01, found + 0.02], "largest_change_255": 8.0,
        })  # fmt: skip
    return {
        "cell": cell.name,
        "setting": setting_of(cell, SMALL),
        "backbone": "efficientnet_lite0",
        "epsilon_255": 8.0,
        "sizes": {"train": 768, "database": 4442, "queries": 96},
        "chance_map": CHANCE,
        "results": rows,
        "seconds": {"train": 60.0, "attack": 30.0},
        "config": {"hashing_loss": "csq"},
        "versions": {"python": "3.11"},
        "machine": {"cores": 2},
        "peak_rss_mb": 1000,
    }


@pytest.fixture
def options(tmp_path):
    (tmp_path / "docs/results/tables").mkdir(parents=True)
    return tables.TablesOptions(data_dir=tmp_path / "data", out=tmp_path / "docs", runs_dir=tmp_path / "runs")


def save(options, cell, card):
    file = tables.card_file(options, cell)
    file.write_text(card if isinstance(card, str) else json.dumps(card))
    return file


def test_every_cell_has_a_name_of_its_own_and_starts_from_a_cell_that_comes_before():
    cells = all_cells()
    assert len({cell.name for cell in cells}) == len(cells) == 22
    for i, cell in enumerate(cells):
        assert cell.defense == "none" or cell.undefended in cells[:i]


@pytest.mark.parametrize(
    "cell, name",
    [
        (Cell(defense="none"), "none-32bits-seed0"),
        (Cell(defense="saat", bits=64, seed=1), "saat-64bits-seed1"),
        (
            Cell(defense="saat-inference", epsilon_255=2.0, adversarial_weight=0.25),
            "saat-inference-32bits-seed0-eps2-lambda0.25",
        ),
    ],
)
def test_the_name_says_what_differs(cell, name):
    assert cell.name == name


def test_the_undefended_model_meets_all_attacks_and_other_code_lengths_meet_one():
    assert list(attacks_of(Cell(defense="none"), SMALL)) == [
        "hag", "sdha", "mainstay", "auto", "center", "square", "p2p", "dhta", "pros-gan", "tha",
        "mainstay-targeted",
    ]  # fmt: skip
    assert list(attacks_of(Cell(defense="saat"), SMALL)) == ["hag", "sdha", "mainstay", "auto", "center", "square"]
    assert attacks_of(Cell(defense="saat", bits=16), SMALL) == {"mainstay": 100}


def test_all_defenses_have_one_budget(tmp_path):
    budgets = {
        (recipe.epochs, recipe.batch_size, recipe.image_size, recipe.num_steps)
        for cell in all_cells()
        if cell.defense != "none"
        for recipe in [recipe_of(cell, SMALL, tmp_path)]
    }
    assert budgets == {(SMALL.epochs, 32, SMALL.image_size, 7)}


def test_a_cell_with_a_whole_card_is_skipped_and_the_others_are_made_in_order(options, monkeypatch):
    done = Cell(defense="saat")
    save(options, done, card_of(done))
    made = []

    def make(cells, options):
        made.extend(cells)
        for cell in cells:
            save(options, cell, card_of(cell))

    monkeypatch.setattr(tables, "run_cells", make)
    assert tables.main(dataclasses.replace(options, only=("*-32bits-seed0",))) == 0
    assert [cell.name for cell in made] == [
        "none-32bits-seed0", "strong-32bits-seed0", "cgat-32bits-seed0", "atrdh-32bits-seed0",
        "saat-inference-32bits-seed0",
    ]  # fmt: skip
    made.clear()
    assert tables.main(dataclasses.replace(options, only=("*-32bits-seed0",))) == 0
    assert made == [] and (options.out / "results.md").is_file()


@pytest.mark.parametrize(
    "content",
    [
        '{"cell": "saat-32bi',
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        json.dumps({**card_of(Cell(defense="saat")), "results": []}),
        json.dumps({**card_of(Cell(defense="saat")), "setting": 5}),
    ],
    ids=["half", "list", "empty", "null", "nested", "no results", "a number"],
)
def test_a_card_that_is_not_whole_is_refused_and_made_again(options, capsys, content):
    cell = Cell(defense="saat")
    save(options, cell, content)
    assert tables.missing_cells([cell], options) == [cell]
    assert "not a whole card" in capsys.readouterr().out.replace("\n", " ")


def test_a_card_of_other_settings_is_an_error_and_stays(options, capsys):
    cell = Cell(defense="none")
    file = save(options, cell, card_of(cell))
    assert tables.main(dataclasses.replace(options, scale="full")) == USAGE_ERROR
    error = capsys.readouterr().err
    assert str(file) in error and "image_size" in error and "--out" in error
    assert json.loads(file.read_text()) == card_of(cell)


def test_an_unknown_cell_is_an_error_that_names_all(options, capsys):
    assert tables.main(dataclasses.replace(options, only=("saat-31bits-*",))) == USAGE_ERROR
    error = capsys.readouterr().err
    assert "Received: 'saat-31bits-*'" in error and "saat-32bits-seed0" in error


def test_a_model_on_disk_is_not_trained_again(tmp_path):
    cell = Cell(defense="none")
    folder = tmp_path / cell.name
    folder.mkdir()
    encoder = HashingModel("small_cnn", 8, 16)
    encoder.save(folder / "model.keras")
    (folder / "setting.json").write_text(json.dumps(training_setting_of(cell, SMALL)))
    again = trained(cell, SMALL, None, tmp_path, tmp_path)  # without data, training would fail
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    np.testing.assert_array_equal(again.encode(images), encoder.encode(images))
    with pytest.raises(DataError, match="a model of other settings"):
        trained(cell, SCALES["full"], None, tmp_path, tmp_path)


def test_items_are_spread_over_the_list_without_repeats():
    found = spread_indices(2221, 768)
    assert len(set(found)) == 768 and set(np.diff(found)) == {2, 3} and found[0] == 0 and found[-1] > 2217
    assert spread_indices(5, 9) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "robust, ideal, undefended, expected",
    [(0.3, 0.1, 0.5, 0.5), (0.1, 0.1, 0.5, 0.0), (0.05, 0.1, 0.5, -0.125), (0.5, 0.1, 0.5, 1.0)],
)
def test_the_kept_share_by_hand(robust, ideal, undefended, expected):
    assert kept_share(robust, ideal=ideal, undefended=undefended) == pytest.approx(expected)


def cards_of(*cells, **by_attack):
    return {cell.name: card_of(cell, **by_attack) for cell in cells}


def line(text, *starts):
    (found,) = (row for row in text.splitlines() if row.startswith("| " + " | ".join(starts) + " |"))
    return found


def test_the_page_shows_each_figure_with_its_interval_and_a_dash_for_what_is_missing():
    cards = cards_of(Cell(defense="none")) | cards_of(Cell(defense="saat"), value=0.3, mainstay=0.25)
    text = page(cards)
    assert (
        line(text, "mainstay (SAAT's)", "MAP")
        == "| mainstay (SAAT's) | MAP | 0.200 (0.190-0.220) | - | 0.200 | 0.112 |"
    )
    assert line(text, "THA", "t-MAP") == "| THA | t-MAP | 0.200 (0.190-0.220) | - | 0.200 | 0.529 |"
    # (0.25 - 0.1) / (0.4 - 0.1) is kept under mainstay, and (0.15 - 0.1) / (0.4 - 0.1) at the worst.
    table_two, suite = [row for row in text.splitlines() if row.startswith("| SAAT | 0 |")]
    assert "0.300 (0.290-0.320)" in table_two and "0.250 (0.240-0.270)" in table_two and table_two.endswith("| 0.50 |")
    assert suite.endswith("| 0.17 |")
    assert line(text, "32").endswith("| 0.300 (0.290-0.320) | 0.250 (0.240-0.270) | 0.50 |")
    assert line(text, "16") == "| 16 | - | - | - | - | - |"
    assert text.count("| 0.200 |") >= 4  # the chance lines
    assert "Its cells have not been measured." in text and "| - | not measured yet | - | - |" in text


def test_the_page_marks_where_saat_does_not_win():
    plain = [Cell(defense=defense, seed=seed) for defense in ("none", "saat") for seed in (0, 1)]
    rivals = [Cell(defense="cgat", seed=seed) for seed in (0, 1)]
    text = page(cards_of(*plain, hag=0.15) | cards_of(*rivals, value=0.5, mainstay=0.1))
    # SAAT, ATRDH, CgAT, strong, undefended
    assert line(text, "no attack", "0.400") == "| no attack | 0.400 | - | **0.500** | - | 0.400 |"
    assert line(text, "mainstay (SAAT's)", "0.200") == "| mainstay (SAAT's) | 0.200 | - | 0.100 | - | 0.200 |"
    assert line(text, "HAG", "MAP").endswith(" | **0.150** | 0.140 |")  # stronger than mainstay's 0.200
    assert line(text, "mainstay (SAAT's)", "MAP").endswith(" | 0.200 | 0.112 |")
    assert line(text, "ideal attack", "MAP").endswith(" | 0.100 | - |")  # no attack of anybody's


def test_a_targeted_attack_is_stronger_with_a_higher_t_map():
    text = page(cards_of(Cell(defense="none"), tha=0.5, p2p=0.1))
    assert line(text, "THA", "t-MAP").endswith(" | **0.500** | 0.529 |")
    assert line(text, "P2P", "t-MAP").endswith(" | 0.100 | 0.527 |")


def test_a_mean_is_over_the_seeds_that_both_models_have():
    cards = cards_of(Cell(defense="none"), Cell(defense="saat"), value=0.4)
    cards |= cards_of(Cell(defense="saat", seed=1), value=0.6) | cards_of(Cell(defense="cgat", seed=0), value=0.45)
    # SAAT has 0.4 and 0.6; CgAT's only seed is compared with SAAT's same seed, 0.4.
    assert line(page(cards), "no attack", "0.500") == "| no attack | 0.500 | - | **0.450** | - | 0.400 |"


def test_a_rival_inside_the_interval_is_marked():
    cards = cards_of(Cell(defense="none")) | cards_of(Cell(defense="saat"), mainstay=0.2)
    cards |= cards_of(Cell(defense="cgat"), mainstay=0.21)
    assert "| mainstay (SAAT's) | 0.200 | - | **0.210** (inside) | - | 0.200 |" in page(cards)


def test_the_models_below_chance_in_the_worst_case_are_listed():
    cells = cards_of(Cell(defense="none"), worst=0.3) | cards_of(Cell(defense="cgat"), worst=0.25)
    start = "Models with a worst case below chance, at one of the seeds: "
    assert f"{start}none." in page(cells)
    cells |= cards_of(Cell(defense="cgat", seed=1), Cell(defense="saat"), worst=0.19)
    assert f"{start}CgAT, SAAT." in page(cells)


def test_the_trade_off_names_its_most_robust_point_beside_the_published_one():
    published, heavy = (Cell(defense="saat-inference", adversarial_weight=weight) for weight in (1.0, 4.0))
    text = page(cards_of(Cell(defense="none"), published) | cards_of(heavy, value=0.375, mainstay=0.25))
    assert "that of epsilon 8/255 and lambda 4: 0.250, and 0.375 without an attack.\n" in text
    assert "The published 8/255 and 1 reach 0.200 and 0.400." in text
    text = page(cards_of(Cell(defense="none"), published) | cards_of(heavy, value=0.375, mainstay=0.15))
    assert "that of epsilon 8/255 and lambda 1: 0.200, and 0.400 without an attack.\n" in text
    assert "The published" not in page(cards_of(Cell(defense="none"), heavy))


def test_the_goals_of_the_strong_recipe_are_judged_by_seed():
    seeds = [0, 1]
    cards = cards_of(*(Cell(defense="none", seed=seed) for seed in seeds))
    cards |= cards_of(*(Cell(defense="saat", seed=seed) for seed in seeds), mainstay=0.12)
    cards |= cards_of(Cell(defense="strong", seed=0), value=0.38, mainstay=0.25, worst=0.24)
    cards |= cards_of(Cell(defense="strong", seed=1), value=0.34, mainstay=0.18, worst=0.19)
    # Kept: (0.25 - 0.1) / 0.3 and (0.18 - 0.1) / 0.3, by SAAT (0.12 - 0.1) / 0.3; clean: of 0.4.
    rows = page(cards).split("| seed | goal | measured | reached |\n|---|---|---|---|\n")[1].split("\n\n")[0]
    assert rows.splitlines() == [
        "| 0 | worst case | 0.240 (0.230-0.260) against 0.200 | yes |",
        "| 0 | kept share | 0.500 against 0.067 | yes |",
        "| 0 | clean MAP | 0.95 | yes |",
        "| 1 | worst case | 0.190 (0.180-0.210) against 0.200 | no, chance inside the interval |",
        "| 1 | kept share | 0.267 against 0.067 | no |",
        "| 1 | clean MAP | 0.85 | no |",
    ]


def test_the_page_says_what_the_stored_cards_give():
    docs = Path(__file__).parents[2] / "docs"
    cards = {
        cell.name: read_card(docs / f"results/tables/{cell.name}.json", setting_of(cell, SMALL)) for cell in all_cells()
    }
    classes = json.loads((docs / "results/many_classes.json").read_text())
    assert page(cards, classes) == (docs / "results.md").read_text(encoding="utf-8"), "run python -m benchmarks.tables"


def test_the_page_and_its_picture_are_written_whole(tmp_path):
    cards = cards_of(*(cell for cell in all_cells() if cell.defense in ("none", "saat-inference")))
    file = write_page(cards, tmp_path)
    assert "![Clean against robust MAP of SAAT](pictures/trade_off.png)" in file.read_text()
    assert (tmp_path / "pictures/trade_off.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["results.md", "trade_off.png"]
    with pytest.raises(ValueError, match="at least one card"):
        write_page({}, tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/many_classes.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"many_classes\.json: expected a JSON object\. Received: list\. Restore it"):
        write_page(cards, tmp_path)


def test_the_page_shows_what_many_classes_cost_where_that_was_measured():
    cost = {"num_classes": 1000, "num_items": 100_000, "num_label_sets": 64_274, "mainstay_ms": 250.256}
    cost |= {"epoch_seconds": 824.678, "bank_mb": 286.91}
    classes = {"batch_size": 32, "code_length": 64, "machine": {"cores": 2}, "results": [cost]}
    cards = cards_of(Cell(defense="none"))
    assert "| 1,000 | 100,000 | 64,274 | 250 | 825 | 287 |" in page(cards, classes).splitlines()
    assert "Many classes" not in page(cards)


def test_a_whole_card_is_read_as_it_is(tmp_path):
    cell = Cell(defense="none")
    (tmp_path / "card.json").write_text(json.dumps(card_of(cell)))
    assert read_card(tmp_path / "card.json", setting_of(cell, SMALL)) == card_of(cell)
    assert read_card(tmp_path / "other.json", setting_of(cell, SMALL)) is None
