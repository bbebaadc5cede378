"""Training on a folder of class folders: the split that is drawn or given, the card, and resuming a finished run."""

import dataclasses
import json
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from saat_tf.data import read_image_lists
from saat_tf.data.folder_lists import class_folder_lists
from tests.small_graphs import small_graphs
from trainers.recipes.folders import FoldersRecipe, load
from trainers.runs.run import main

CLASSES = {"cats": 6, "dogs": 9}
SMALL = {
    "backbone": "small_cnn", "pretrained": False, "image_size": 8, "bits": 8, "hashing_loss": "dph", "batch_size": 8,
    "pretrain_epochs": 1, "epochs": 1, "num_steps": 1, "attack_steps": 2, "query_share": 0.34, "probe_images": 0,
}  # fmt: skip


def write_images(folder, counts=CLASSES):
    """Write images of one color, reddish cats and bluish dogs, all different."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.zeros((10, 9, 3), np.uint8)
            pixels[..., 2 * number] = 100 + 10 * i
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def names(images):
    return [str(path.relative_to(path.parents[1])) for path in images.paths]


@pytest.fixture
def cheap(monkeypatch):
    """Encoders of one convolution, PNG files alone, no picture of the queries: others compare what these cost."""
    monkeypatch.setattr(
        "saat_tf.data.decoding.decode.decode_pixels",
        lambda contents, *, apply_orientation=True: tf.io.decode_png(contents, channels=3),
    )
    monkeypatch.setattr("trainers.runs.run.plot_queries", lambda queries, epsilon, path: None)
    with small_graphs():
        yield


@pytest.mark.slow
def test_a_folder_without_a_split_is_trained_on_and_resumes(tmp_path, capsys, monkeypatch, cheap):
    write_images(tmp_path / "data")
    recipe = FoldersRecipe(data_dir=tmp_path / "data", run_dir=tmp_path / "run", **SMALL)
    with monkeypatch.context() as patch:  # when both encoders are trained and evaluated
        patch.setattr("trainers.runs.run.plot_maps", mock.Mock(side_effect=KeyboardInterrupt))
        assert main(recipe, "folders", lambda: load(recipe)) == 130
    said = capsys.readouterr()
    assert "10 training images, 10 in the database, 5 queries" in said.out and "--resume --run-dir" in said.err
    assert not (tmp_path / "run" / "card.json").exists()

    resumed = dataclasses.replace(recipe, resume=True)
    assert main(resumed, "folders", lambda: load(resumed)) == 0
    assert "Hashing training" in said.out and "Hashing training" not in capsys.readouterr().out
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["dataset"] == "folders" and {row["defense"] for row in card["results"]} == {"none", "saat"}
    # Of 6 cats 34% are 2, of 9 dogs 3; each query finds the 4 cats or 6 dogs left of 10.
    assert card["chance_map"] == pytest.approx((2 * 0.4 + 3 * 0.6) / 5)
    kept = read_image_lists(tmp_path / "run" / "split")
    drawn, class_names = class_folder_lists(tmp_path / "data", 0.34, seed=0)
    assert names(kept.test) == names(drawn.test) and names(kept.train) == names(drawn.train)
    assert tuple((tmp_path / "run" / "split" / "classes.txt").read_text().split()) == class_names == ("cats", "dogs")
    robust = keras.saving.load_model(tmp_path / "run" / "robust.keras", safe_mode=True)
    assert (robust.code_length, robust.image_size) == (8, 8)


def raw_numbers(seed, count):
    """The first 64-bit numbers of PCG64 with a seed, by NumPy's Generator."""
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 1 << 64, count, np.uint64, endpoint=False)


def test_queries_are_drawn_from_each_class_by_the_stated_rule_and_again_alike(tmp_path):
    """The images of a class with the smallest numbers of the stream, which counts all images by class and name."""
    write_images(tmp_path / "data")
    numbers = raw_numbers(3, 15)
    cats, dogs = np.argsort(numbers[:6])[:2], 6 + np.argsort(numbers[6:])[:3]
    expected = {f"cats/{i}.png" for i in cats} | {f"dogs/{i - 6}.png" for i in dogs}
    lists, class_names = class_folder_lists(tmp_path / "data", 0.34, seed=3)
    assert set(names(lists.test)) == expected and class_names == ("cats", "dogs")
    assert set(names(lists.database)) == set(names(lists.train)) and names(lists.database) == names(lists.train)
    everything = {f"{name}/{i}.png" for name, count in CLASSES.items() for i in range(count)}
    assert set(names(lists.database)) == everything - expected and len(names(lists.database)) == 10
    for images in (lists.test, lists.database):
        assert [["cats", "dogs"][i] for i in images.labels.argmax(axis=1)] == [n.split("/")[0] for n in names(images)]
        assert (images.labels.sum(axis=1) == 1).all()
    # Elsewhere, and written in another order, the same; by another seed others.
    write_images(tmp_path / "elsewhere", dict(reversed(CLASSES.items())))
    assert names(class_folder_lists(tmp_path / "elsewhere", 0.34, seed=3)[0].test) == names(lists.test)
    assert names(class_folder_lists(tmp_path / "data", 0.34, seed=4)[0].test) != names(lists.test)
    # At least one of each class, and not all.
    for share, counts in ((0.01, {"cats": 1, "dogs": 1}), (0.99, {"cats": 5, "dogs": 8})):
        found = [name.split("/")[0] for name in names(class_folder_lists(tmp_path / "data", share, seed=0)[0].test)]
        assert {name: found.count(name) for name in CLASSES} == counts


def test_a_folder_that_is_divided_keeps_its_queries(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "val", {"dogs": 2, "cats": 1})
    lists, _ = class_folder_lists(tmp_path, 0.5, seed=0)
    assert sorted(names(lists.test)) == ["cats/0.png", "dogs/0.png", "dogs/1.png"]
    assert len(lists.database.paths) == len(lists.train.paths) == 15
    assert all(path.parts[-3] == "val" for path in lists.test.paths)
