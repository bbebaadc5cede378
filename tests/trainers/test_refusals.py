"""Bad input ends with exit code 2 and a clear line before any training; nothing is made or overwritten."""

import dataclasses
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainers.coco import HOW_TO_GET, CocoRecipe
from trainers.files import load_files
from trainers.run import main

ROOT = Path(__file__).parents[2]
CLASSES = 3


@pytest.fixture
def folder(tmp_path):
    """Four training images that are the database too, two queries."""
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for split, names in (("train", "abcd"), ("database", "abcd"), ("test", "ef")):
        for name in names:
            Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(data / f"{name}.jpg")
        (data / f"{split}_img.txt").write_text("".join(f"{name}.jpg\n" for name in names))
        (data / f"{split}_label.txt").write_text("1 0 1\n" * len(names))
    return data


def refused(folder, capsys, **options):
    """Run the recipe, check that it is refused and that nothing was made, and return what it said."""
    recipe = CocoRecipe(**{"data_dir": folder, "backbone": "small_cnn", "image_size": 16, **options})
    recipe = dataclasses.replace(recipe, run_dir=recipe.run_dir or folder.parent / "run")
    before = sorted(folder.parent.rglob("*"))
    assert main(recipe, "coco", lambda: load_files(recipe, "coco", HOW_TO_GET)) == 2
    assert sorted(folder.parent.rglob("*")) == before
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    return said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 12}, "multiple of 8"),
        ({"bits": 0}, "multiple of 8"),
        ({"epsilon_255": -1.0}, r"\[0, 255\]"),
        ({"epsilon_255": 256.0}, r"\[0, 255\]"),
        ({"step_255": 0.0}, "step"),
        ({"step_255": 300.0}, r"\[0, 255\]"),
        ({"num_steps": 0}, "--num-steps"),
        ({"attack_steps": 0}, "steps"),
        ({"batch_size": 0}, "--batch-size"),
        ({"epochs": 0}, "--epochs"),
        ({"pretrain_epochs": 0}, "--pretrain-epochs"),
        ({"top_k": 0}, "--top-k"),
        ({"limit_train": 0}, "--limit-train"),
        ({"image_size": 8}, "at least 16"),
        ({"adversarial_weight": -1.0}, "adversarial_weight|adversarial-weight"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"pretrained": True}, "efficientnet_lite0"),
        ({"crop_fraction": 0.0}, "--crop-fraction"),
        ({"num_labels": 4}, "4 label columns of 3"),
    ],
)
def test_an_option_out_of_range(folder, capsys, options, message):
    said = refused(folder, capsys, **options)
    assert re.search(message, said), said


def cut_short(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "c.jpg").unlink(), "database_img.txt:3|train_img.txt:3"),
        (lambda d: cut_short(d / "c.jpg"), "_img.txt:3: cannot read .*c.jpg"),
        (lambda d: (d / "e.jpg").write_text("no image"), "test_img.txt:1: cannot read .*e.jpg"),
        (lambda d: (d / "test_label.txt").write_text("1 0 1\n1 0\n"), "test_label.txt:2: expected 3 values.*: 2"),
        (lambda d: (d / "train_label.txt").write_text("1 0 1\n1 0 2\n1 0 1\n1 0 1\n"), "train_label.txt:2: .*'2'"),
        (lambda d: (d / "train_label.txt").write_text("1 0 1\n"), "4 lines and .*train_label.txt has 1"),
        (lambda d: [(d / f"test_{k}.txt").write_text("") for k in ("img", "label")], "test_img.txt: the list is empty"),
        (lambda d: (d / "test_img.txt").write_text("e.jpg\nb.jpg\n"), "test_img.txt:2: the query b.jpg also stands"),
        (lambda d: (d / "database_img.txt").unlink(), "database_img.txt: no such file"),
        (lambda d: (d / "test_label.txt").write_text("1 0\n0 1\n"), "differ in width"),
        (lambda d: (d / "classes.txt").write_text("one\ntwo\n"), "classes.txt: expected 3 class names"),
    ],
)
def test_faulty_data_names_file_line_and_remedy(folder, capsys, break_it, message):
    break_it(folder)
    said = refused(folder, capsys)
    assert re.search(message, said), said


def test_an_existing_run_is_left_as_it_is(folder, capsys):
    run_dir = folder.parent / "old"
    run_dir.mkdir()
    (run_dir / "card.json").write_text("mine")
    assert "never overwritten" in refused(folder, capsys, run_dir=run_dir)
    assert (run_dir / "card.json").read_text() == "mine"


def test_a_header_that_claims_too_many_pixels_is_refused_before_decoding(folder, capsys):
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "a.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    said = refused(folder, capsys)
    assert "a.jpg" in said and ("pixels" in said)


def run(module, *options):
    return subprocess.run(
        [sys.executable, "-m", module, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_without_data_coco_says_what_to_fetch():
    done = run("trainers.coco")
    assert done.returncode == 2
    for word in ("cocodataset.org", "train2014", "_label.txt", "--data-dir"):
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_option_is_an_error():
    done = run("trainers.scenes", "--epsilon", "8")
    assert done.returncode == 2
    assert "--epsilon" in done.stdout + done.stderr


def test_help_teaches_every_option():
    done = run("trainers.corel5k", "--help")
    assert done.returncode == 0
    for field in dataclasses.fields(CocoRecipe):
        assert f"--{field.name.replace('_', '-')}" in done.stdout, field.name
