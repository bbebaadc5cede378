"""The main job from the command line: run folder, card, pictures, export; each command once in a process of its own."""

import dataclasses
import json
import runpy
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from saat_tf.data import CLASS_NAMES, DataError, draw_scenes, read_image_lists
from saat_tf.metrics import chance_map
from tests.small_graphs import flat_backbone, small_graphs
from tests.trainers.commands import SMALL, run
from trainers.recipes.file_data import load_files
from trainers.recipes.published import CocoRecipe

COCO_MINI = Path(__file__).parents[4] / "shared" / "data" / "coco_mini"
NETWORK = ["--backbone", "small_cnn", "--image-size", "32"]
FILES = {
    "config.json",
    "card.json",
    "hashing.keras",
    "robust.keras",
    "maps.png",
    "queries.png",
    "evaluations/hashing.npz",
    "evaluations/saat.npz",
}


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run a module by its command line as `run` does, without another start of TensorFlow."""

    def run_here(module, *options):
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr(sys, "argv", [module, *map(str, options)])
            patch.delitem(sys.modules, module, raising=False)  # as in a new process, where it is not yet imported
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        said = capsys.readouterr()
        return types.SimpleNamespace(returncode=ended.value.code, stdout=said.out, stderr=said.err)

    return run_here


@pytest.mark.slow
def test_a_run_folder_holds_all_that_a_run_made(scenes_run):
    run_dir, _ = scenes_run
    assert {str(p.relative_to(run_dir)) for p in run_dir.rglob("*") if p.is_file()} >= FILES
    for phase in ("hashing", "saat"):
        assert list((run_dir / "logs" / phase).rglob("events.out.tfevents.*"))
    for picture in ("maps.png", "queries.png"):
        with Image.open(run_dir / picture) as image:
            assert image.format == "PNG" and min(image.size) > 200
    assert not [p for p in run_dir.rglob("*") if p.name.startswith(".writing")]


@pytest.mark.slow
def test_the_card_says_what_was_done_and_what_came_out(scenes_run):
    run_dir, _ = scenes_run
    card = json.loads((run_dir / "card.json").read_text())
    assert (card["dataset"], card["backbone"], card["code_length"]) == ("scenes", "small_cnn", 16)
    assert (card["hashing_loss"], card["epsilon_255"]) == ("csq", 8.0)
    assert card["config"] == json.loads((run_dir / "config.json").read_text())
    assert card["config"]["num_train"] == 96
    assert card["versions"]["tensorflow"] == tf.__version__ and card["versions"]["keras"] == keras.__version__
    assert set(card["seconds"]) == {"pretrain", "adversarial", "evaluate"}
    assert all(seconds > 0 for seconds in card["seconds"].values())
    assert card["peak_rss_mb"] > 100
    rows = {(row["defense"], row["attack"]): row for row in card["results"]}
    assert set(rows) == {(d, a) for d in ("none", "saat") for a in ("none", "mainstay", "ideal")}
    for row in card["results"]:
        assert set(row) == {"defense", "attack", "metric", "top_k", "tie_rule", "value"}
        assert (row["metric"], row["top_k"]) == ("MAP", 5000)
        assert 0 <= row["value"] <= 1


@pytest.mark.slow
def test_the_chance_line_is_the_relevance_prior_of_the_drawn_data(scenes_run):
    run_dir, _ = scenes_run
    queries, database = draw_scenes(10, seed=1).labels, draw_scenes(96, seed=0).labels
    expected = np.mean([[bool((q * d).any()) for d in database] for q in queries])
    assert json.loads((run_dir / "card.json").read_text())["chance_map"] == pytest.approx(expected)
    assert chance_map(queries, database) == pytest.approx(expected)


@pytest.mark.slow
def test_the_last_table_shows_both_models_with_chance(scenes_run):
    run_dir, output = scenes_run
    card = json.loads((run_dir / "card.json").read_text())
    for word in ("undefended", "SAAT", "clean", "under attack", "chance"):
        assert word in output
    for row in card["results"]:
        assert f"{row['value']:.3f}" in output


@pytest.mark.slow
def test_the_clean_map_of_the_card_is_that_of_the_saved_model(scenes_run):
    run_dir, _ = scenes_run
    database, queries = draw_scenes(96, seed=0), draw_scenes(10, seed=1)
    card = json.loads((run_dir / "card.json").read_text())
    for file, defense in (("hashing.keras", "none"), ("robust.keras", "saat")):
        model = keras.saving.load_model(run_dir / file, safe_mode=True)
        codes = [np.unpackbits(model.encode(s.images).numpy(), axis=1).astype(int) for s in (queries, database)]
        precisions = []
        for q, code in enumerate(codes[0]):
            order = np.argsort((code != codes[1]).sum(axis=1), kind="stable")
            hits = (database.labels[order] @ queries.labels[q]) > 0
            precisions.append(np.mean([hits[: i + 1].mean() for i in np.flatnonzero(hits)]) if hits.any() else 0.0)
        value = next(r["value"] for r in card["results"] if (r["defense"], r["attack"]) == (defense, "none"))
        assert value == pytest.approx(np.mean(precisions), abs=1e-6)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_card(scenes_run, tmp_path, run_here):
    run_dir, _ = scenes_run
    done = run_here("trainers.scenes", "--run-dir", tmp_path / "again", "--num-train", 96, "--num-queries", 10, *SMALL)
    assert done.returncode == 0, done.stderr
    cards = [json.loads((folder / "card.json").read_text()) for folder in (run_dir, tmp_path / "again")]
    assert cards[0]["results"] == cards[1]["results"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["robust", "hashing"])
def test_an_exported_model_gives_the_bits_of_encode(scenes_run, tmp_path, run_here, name):
    run_dir, _ = scenes_run
    start = run if name == "robust" else run_here
    done = start("export.saved_model", "--run-dir", run_dir, "--out", tmp_path / "encoder", "--model", name)
    assert done.returncode == 0, done.stderr
    images = draw_scenes(33, seed=9).images
    signature = tf.saved_model.load(str(tmp_path / "encoder")).signatures["serving_default"]
    exported = signature(images=tf.constant(images))["packed_codes"].numpy()
    expected = keras.saving.load_model(run_dir / f"{name}.keras").encode(images).numpy()
    assert exported.dtype == np.uint8
    np.testing.assert_array_equal(exported, expected)


@pytest.mark.slow
def test_an_export_overwrites_nothing_and_names_a_missing_run(scenes_run, tmp_path, run_here):
    run_dir, _ = scenes_run
    (tmp_path / "there").mkdir()
    for options, message in (
        (["--run-dir", run_dir, "--out", tmp_path / "there"], "never overwritten"),
        (["--run-dir", tmp_path, "--out", tmp_path / "new"], "no such file"),
    ):
        done = run_here("export.saved_model", *options)
        assert done.returncode == 2
        assert message in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.fixture
def photo_folder(tmp_path):
    """A folder in the list format: JPEG files in the lists' places, with and without classes.txt."""
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "images").mkdir(parents=True)
    for split, count, seed in (("train", 20, 0), ("database", 30, 0), ("test", 6, 1)):
        scenes = draw_scenes(count, image_size=48, seed=seed)
        names = [f"images/{seed}-{i}.jpg" for i in range(count)]
        for name, pixels in zip(names, scenes.images, strict=True):
            wide = np.pad(pixels, ((0, 0), (0, rng.integers(0, 20)), (0, 0)))
            Image.fromarray((wide * 255).astype(np.uint8)).save(tmp_path / "data" / name, quality=95)
        (tmp_path / "data" / f"{split}_img.txt").write_text("\n".join(names) + "\n")
        rows = [" ".join(str(int(v)) for v in row) for row in scenes.labels]
        (tmp_path / "data" / f"{split}_label.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "data" / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    return tmp_path / "data"


def check_run_of_files(run_dir, data_dir, **places):
    """Check that a run has all its files, and keeps the lists that it was made of at these places."""
    assert {str(p.relative_to(run_dir)) for p in run_dir.rglob("*")} >= FILES
    kept, lists = read_image_lists(run_dir / "split"), read_image_lists(data_dir)
    for split, chosen in places.items():
        expected = getattr(lists, split).take(list(chosen))
        assert [path.resolve() for path in getattr(kept, split).paths] == list(expected.paths)
        np.testing.assert_array_equal(getattr(kept, split).labels, expected.labels)
    assert (run_dir / "split" / "classes.txt").read_text().splitlines() == list(CLASS_NAMES)


@pytest.mark.slow
def test_image_files_train_from_the_command_line(photo_folder, tmp_path):
    run_dir = tmp_path / "run"
    options = ["--data-dir", photo_folder, "--run-dir", run_dir, "--no-pretrained", "--limit-train", 16]
    done = run("trainers.coco", *options, *SMALL, *NETWORK)
    assert done.returncode == 0, done.stderr
    assert "16 training images, 30 in the database, 6 queries" in done.stdout
    check_run_of_files(run_dir, photo_folder, train=range(16), database=range(30), test=range(6))


@pytest.mark.slow
def test_an_unreadable_image_is_left_out_and_listed_on_request(photo_folder, tmp_path, run_here):
    run_dir = tmp_path / "run"
    damaged = photo_folder / "images" / "0-1.jpg"  # in the training set and in the database
    damaged.write_bytes(damaged.read_bytes()[:200])
    options = ["--data-dir", photo_folder, "--run-dir", run_dir, "--skip-unreadable", "--random-crop"]
    with small_graphs(flat_backbone):
        done = run_here("trainers.corel5k", *options, "--no-pretrained", *SMALL, *NETWORK)
    assert done.returncode == 0, done.stderr
    assert "19 training images, 29 in the database, 6 queries" in done.stdout
    check_run_of_files(run_dir, photo_folder, train=[0, *range(2, 20)], database=[0, *range(2, 30)], test=range(6))
    skipped = (run_dir / "skipped.txt").read_text().splitlines()
    assert [line.split(": cannot read ")[0] for line in skipped] == ["train_img.txt:2", "database_img.txt:2"]


@pytest.mark.slow
def test_a_cache_on_disk_gives_the_images_of_the_files(photo_folder, tmp_path):
    recipe = CocoRecipe(data_dir=photo_folder, image_size=32)
    plain = load_files(recipe, "coco", "")
    cached = load_files(dataclasses.replace(recipe, cache_dir=tmp_path / "cache"), "coco", "")
    for i in (0, 7, 19):
        np.testing.assert_array_equal(cached.train.load(i).numpy(), plain.train.load(i).numpy())
    with pytest.raises(DataError, match="--cache-dir"):
        load_files(dataclasses.replace(recipe, cache_dir=tmp_path / "cache", random_crop=True), "coco", "")


@pytest.mark.slow
@pytest.mark.skipif(not COCO_MINI.is_dir(), reason="needs the real COCO images of shared/data/coco_mini")
def test_real_coco_images_train_from_the_command_line(tmp_path, run_here):
    options = ["--data-dir", COCO_MINI, "--run-dir", tmp_path / "run", "--limit-train", 32]
    with small_graphs(flat_backbone):
        done = run_here("trainers.coco", *options, *SMALL, *NETWORK)
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert (card["dataset"], card["hashing_loss"]) == ("coco", "dph")
    assert "80 labels" in done.stdout
