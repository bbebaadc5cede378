"""The trainers of the paper's data sets on data as fetched, in the list format, and without data."""

import re
from pathlib import Path

import numpy as np
import pytest
import tyro

import trainers.runs.run
from saat_tf.data import Protocol, read_image_lists, write_image_lists
from saat_tf.data.splits import seeded_split
from saat_tf.data.tfds.coco import CLASS_NAMES, read_coco
from saat_tf.data.tfds.flickr25k import read_flickr25k
from saat_tf.data.tfds.nus_wide import read_nus_wide
from trainers.recipes.file_data import FileData, load_data_set
from trainers.recipes.published import COCO, FLICKR25K, NUS_WIDE, CocoRecipe, Flickr25kRecipe, NusWideRecipe

PAPER_TABLES = Path(__file__).parents[4] / "shared" / "reference" / "paper_tables.csv"
SMALL = {"backbone": "small_cnn", "image_size": 16, "bits": 16}
PROTOCOL = Protocol(num_images=5, num_queries=1, num_train=3)
# Name, recipe, what it says to fetch, reader, name in the paper's tables.
DATA_SETS = [
    ("coco", CocoRecipe, COCO.how_to_get, read_coco, "MS-COCO"),
    ("flickr25k", Flickr25kRecipe, FLICKR25K.how_to_get, read_flickr25k, "FLICKR-25K"),
    ("nus_wide", NusWideRecipe, NUS_WIDE.how_to_get, read_nus_wide, "NUS-WIDE"),
]


@pytest.fixture
def began(monkeypatch, tmp_path):
    """Run a recipe up to where training would begin; return the data, or the error."""
    monkeypatch.chdir(tmp_path)

    def begin(index, capsys=None, **options):
        name, recipe_class, how_to_get, read, _ = DATA_SETS[index]
        calls = []
        monkeypatch.setattr(trainers.runs.run, "run", lambda *arguments: calls.append(arguments))
        recipe = recipe_class(**{**SMALL, "run_dir": tmp_path / "made" / "run", **options})
        code = trainers.runs.run.main(recipe, name, lambda: load_data_set(recipe, name, how_to_get, read, PROTOCOL))
        if code:
            assert code == 2 and not calls and not (tmp_path / "made").exists()
            return capsys.readouterr().err
        return calls[0][1]

    return begin


def names(split):
    return [path.name for path in split.paths]


@pytest.mark.slow
def test_a_plain_coco_folder_trains_on_a_seeded_split(began, coco_original):
    data = began(0, data_dir=coco_original.folder, split="seeded", split_seed=5, seed=1)
    expected = seeded_split(read_coco(coco_original.folder), PROTOCOL, seed=5)
    assert isinstance(data, FileData) and tuple(data.class_names) == CLASS_NAMES
    for split in ("train", "database", "test"):
        assert names(getattr(data.lists, split)) == names(getattr(expected, split))
        np.testing.assert_array_equal(getattr(data, split).labels, getattr(expected, split).labels)
    image = data.database.load(0).numpy()
    assert image.shape == (16, 16, 3) and 0 <= image.min() < image.max() <= 1


@pytest.mark.slow
def test_fewer_labels_keep_the_first_columns_and_their_images(began, flickr_original):
    flickr_original.unpack()
    options = {"data_dir": flickr_original.folder, "split": "seeded"}
    data = began(1, **options)
    assert len(data.class_names) == 38 and len(data.database) == 11
    images = read_flickr25k(flickr_original.folder, columns=24)
    data = began(1, **options, num_labels=24, run_dir=Path("other"))
    assert tuple(data.class_names) == images.class_names
    # Image 7 has a relevant label alone and image 11 has none.
    kept = set(names(data.lists.database)) | set(names(data.lists.test))
    assert kept == {f"im{i}.jpg" for i in range(1, 13)} - {"im7.jpg", "im11.jpg"}


@pytest.mark.slow
def test_the_training_images_in_use_are_those_that_a_run_keeps(began, coco_original, tmp_path):
    data = began(0, data_dir=coco_original.folder, split="seeded", limit_train=2, split_seed=5)
    assert len(data.train) == len(data.lists.train.paths) == 2
    write_image_lists(data.lists, data.class_names, tmp_path / "kept", suffix=".txt.gz")
    again = began(0, data_dir=tmp_path / "kept", run_dir=Path("again"))
    for split in ("train", "database", "test"):
        assert names(getattr(again.lists, split)) == names(getattr(data.lists, split))
    assert again.class_names == list(data.class_names)


@pytest.mark.slow
def test_official_lists_divide_a_folder_as_fetched(began, coco_original, tmp_path, capsys):
    expected = seeded_split(read_coco(coco_original.folder), PROTOCOL, seed=5)
    write_image_lists(expected, CLASS_NAMES, tmp_path / "lists")
    data = began(0, data_dir=coco_original.folder, lists=tmp_path / "lists")
    assert [names(s) for s in (data.lists.test, data.lists.train)] == [
        names(s) for s in (expected.test, expected.train)
    ]
    read_image_lists(tmp_path / "lists")  # they are in the list format themselves


def test_images_in_an_archive_are_refused_with_what_to_do(began, flickr_original, capsys):
    error = began(1, capsys, data_dir=flickr_original.folder, split="seeded")
    assert "Unpack it" in error and "python -m saat_tf.data.prepare flickr25k" in error


@pytest.mark.slow
def test_a_truncated_image_is_found_before_training(began, flickr_original, capsys):
    flickr_original.unpack()
    image = flickr_original.folder / "mirflickr" / "im2.jpg"
    image.write_bytes(image.read_bytes()[:200])
    assert str(image) in began(1, capsys, data_dir=flickr_original.folder, split="seeded")


def test_missing_images_are_found_before_training(began, nus_original, capsys):
    (nus_original.folder / "Flickr/zoo/0000_7000.jpg").unlink()
    assert "1 of 25 images are missing" in began(2, capsys, data_dir=nus_original.folder, split="seeded")


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("given", [None, "no_such_folder"])
@pytest.mark.parametrize("split", ["official", "seeded"])
def test_without_data_it_says_what_to_fetch_and_how(began, capsys, index, given, split):
    name = DATA_SETS[index][0]
    error = began(index, capsys, data_dir=given and Path(given), split=split)
    for part in (
        "Fetch",
        ".zip",
        f"python -m trainers.{name} --data-dir",
        "python -m saat_tf.data.prepare",
        "<split>_",
    ):
        assert part in error
    assert len(error.splitlines()) < 20 and (given or "") in error


@pytest.mark.parametrize("name, recipe, _get, _read, _paper", DATA_SETS)
def test_the_command_line_has_the_options_of_the_split(name, recipe, _get, _read, _paper):
    parsed = tyro.cli(recipe, args=["--split", "seeded", "--split-seed", "3", "--data-dir", "x"])
    assert (parsed.split, parsed.split_seed, parsed.data_dir) == ("seeded", 3, Path("x"))
    assert (parsed.backbone, parsed.bits, parsed.pretrain_epochs, parsed.epochs) == ("alexnet", 32, 100, 20)


@pytest.mark.skipif(not PAPER_TABLES.is_file(), reason="needs shared/reference/paper_tables.csv")
@pytest.mark.parametrize("name, recipe, _get, _read, paper", DATA_SETS)
def test_the_docstring_gives_the_papers_scores(name, recipe, _get, _read, paper):
    scores = {}
    for line in PAPER_TABLES.read_text().splitlines()[1:]:
        _, defense, attack, metric, dataset, _, bits32, *_ = line.split(",")
        if metric == "MAP" and dataset == paper:
            scores[defense, attack] = f"{float(bits32) / 100 + 1e-9:.3f}"
    text = " ".join(recipe.__doc__.split())
    for defense, words in (("none", "undefended model"), ("SAAT", "SAAT")):
        clean, attacked = scores[defense, "original"], scores[defense, "SAAT"]
        found = re.search(rf"({clean}) (clean )?and ({attacked}) (under attack )?for (the )?{words}", text)
        assert found, (defense, clean, attacked, text)
    assert f"python -m trainers.{name} --data-dir" in text and "Cost:" in text
