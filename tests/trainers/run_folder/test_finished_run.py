"""The data of a finished run, without its recipe: the same images and labels as the recipe loads."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from saat_tf.data import DataError, RetrievalData, evaluation_batches, write_image_lists
from trainers.recipes import scenes
from trainers.recipes.published import COCO, CocoRecipe
from trainers.recipes.scenes import ScenesRecipe
from trainers.run_folder.finished_run import load_run_data, read_card, resize_size

pytestmark = pytest.mark.slow

COUNTS = {"train": 5, "database": 9, "test": 3}


def card_of(name, recipe):
    return {"dataset": name, "config": json.loads(json.dumps(dataclasses.asdict(recipe), default=str))}


def same(data: RetrievalData, expected: RetrievalData):
    assert data.name == expected.name and list(data.class_names) == list(expected.class_names)
    for split in ("train", "database", "test"):
        ours, theirs = (next(iter(evaluation_batches(getattr(one, split), 100))) for one in (data, expected))
        for mine, wanted in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, wanted)


def test_drawn_data_are_drawn_again(tmp_path):
    recipe = ScenesRecipe(num_train=6, num_queries=4, limit_train=3, seed=5)
    same(load_run_data(tmp_path, card_of("scenes", recipe)), scenes.load(recipe))
    with pytest.raises(DataError, match="drawn"):
        load_run_data(tmp_path, card_of("scenes", recipe), tmp_path)


@pytest.fixture
def folder(tmp_path):
    """A data set of three labels in the list format; the last image of the database has the third label alone."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, count in COUNTS.items():
        rows = [f"{i % 2} {1 - i % 2} 0" for i in range(count)]
        if name == "database":
            rows[-1] = "0 0 1"
        for i in range(count):
            pixels = np.random.default_rng((len(name), i)).integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}{i}.png")
        (folder / f"{name}_img.txt").write_text("".join(f"{name}{i}.png\n" for i in range(count)))
        (folder / f"{name}_label.txt").write_text("\n".join(rows))
    (folder / "classes.txt").write_text("cat\ndog\nfish\n")
    return folder


def test_images_are_those_of_the_lists_that_the_run_keeps(folder, tmp_path):
    recipe = CocoRecipe(data_dir=folder, num_labels=2, limit_train=4, image_size=16)
    trained = COCO.load(recipe)
    assert (len(trained.train), len(trained.database), len(trained.class_names)) == (4, 8, 2)
    write_image_lists(trained.lists, trained.class_names, tmp_path / "run" / "split", suffix=".txt.gz")
    same(load_run_data(tmp_path / "run", card_of("coco", recipe)), trained)


def test_images_that_have_moved_are_named_and_found_where_they_are_said_to_be(folder, tmp_path):
    recipe = CocoRecipe(data_dir=folder, num_labels=2, limit_train=4, image_size=16, skip_unreadable=True)
    trained = COCO.load(recipe)
    write_image_lists(trained.lists, trained.class_names, tmp_path / "run" / "split")
    moved = shutil.move(folder, tmp_path / "moved")
    with pytest.raises(DataError, match=r"train0\.png"):
        load_run_data(tmp_path / "run", card_of("coco", recipe))
    expected = COCO.load(dataclasses.replace(recipe, data_dir=moved))
    same(load_run_data(tmp_path / "run", card_of("coco", recipe), moved), expected)


def test_a_run_without_lists_or_card_says_so(tmp_path):
    with pytest.raises(DataError, match="--data-dir"):
        load_run_data(tmp_path, card_of("coco", CocoRecipe()))
    with pytest.raises(DataError, match="finished run"):
        read_card(tmp_path)


WHOLE = {
    "dataset": "scenes", "backbone": "small_cnn", "code_length": 8, "epsilon_255": 8, "chance_map": 0.1,
    "config": {"image_size": 32, "crop_fraction": 0.8}, "versions": {}, "results": [{"defense": "none"}],
}  # fmt: skip


def test_a_whole_card_is_read_and_gives_the_size_before_the_cut(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps(WHOLE))
    assert read_card(tmp_path) == WHOLE
    assert resize_size(WHOLE) == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"1: not whole JSON \(.* at column 2\)\. It is not the card of a run: restore it, or repeat the run\.$"),
        (b"\xff", r" not a UTF-8 text file \(invalid start byte at byte 0\)"),
        ('{"a":' * 100_000, r" no JSON that is read here \(it is nested in more than 100 levels\)"),
        ("[]", " expected a JSON object. Received: list. It is not the card of a run"),
        (json.dumps({**WHOLE, "config": 3}), " config missing or of another type. It is not the card of a run"),
        (json.dumps({**WHOLE, "code_length": True}), " code_length missing or of another type"),
        (json.dumps({**WHOLE, "chance_map": float("nan")}), " no JSON that is read here .*it contains NaN"),
        (json.dumps({name: value for name, value in WHOLE.items() if name != "results"}), " results missing"),
        (json.dumps({**WHOLE, "results": [{"defense": "none"}, 5]}), r"results\[1\] missing"),
        (json.dumps({**WHOLE, "config": {"image_size": "32"}}), r"config\.image_size missing"),
        (json.dumps({**WHOLE, "config": {"image_size": 32, "crop_fraction": 0}}), r"config\.crop_fraction missing"),
    ],
    ids=range(11),
)
def test_a_damaged_card_is_refused_with_what_is_wrong(text, message, tmp_path):
    (tmp_path / "card.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=rf"card\.json:.*{message}"):
        read_card(tmp_path)
