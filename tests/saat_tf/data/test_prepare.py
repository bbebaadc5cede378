"""From the data as fetched to the list format, by the command that users type."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro

from saat_tf.data import DataError, Protocol, prepare, read_image_lists
from saat_tf.data.prepare import Command, PrepareCoco, PrepareFlickr25k, PrepareNusWide, main
from saat_tf.data.tfds.coco import CLASS_NAMES

ROOT = Path(__file__).parents[3]
SMALL = Protocol(num_images=5, num_queries=1, num_train=2)


@pytest.fixture(autouse=True)
def small_protocols(monkeypatch):
    """Splits that fit the small data sets."""
    monkeypatch.setattr(PrepareCoco, "protocol", SMALL)
    monkeypatch.setattr(PrepareFlickr25k, "protocol", Protocol(num_images=12, num_queries=3, num_train=4))
    monkeypatch.setattr(PrepareNusWide, "protocol", Protocol(num_images=25, num_queries=3, num_train=5))


def command(*arguments):
    return tyro.cli(Command, args=[str(argument) for argument in arguments])


def found_labels(out):
    """File name -> names of its labels, of all that stands in the lists of a folder."""
    lists, names = read_image_lists(out), (out / "classes.txt").read_text().splitlines()
    return {
        path.name: {names[c] for c in np.flatnonzero(row)}
        for split in (lists.database, lists.test)
        for path, row in zip(split.paths, split.labels, strict=True)
    }


def base_names(labels):
    return {name.rpartition("/")[2]: value for name, value in labels.items()}


@pytest.mark.parametrize("name", ["coco", "flickr25k", "nus_wide"])
def test_what_is_prepared_reads_back_with_its_labels(request, tmp_path, capsys, name):
    original = request.getfixturevalue({"coco": "coco", "flickr25k": "flickr", "nus_wide": "nus"}[name] + "_original")
    out = tmp_path / "made" / "out"
    assert main(command(name, "--data-dir", original.folder, "--out", out)) == 0
    assert found_labels(out) == base_names(original.labels)
    lists = read_image_lists(out)
    sizes = {split: len(getattr(lists, split).paths) for split in ("train", "database", "test")}
    facts = json.loads((out / "split.json").read_text())
    assert (facts["split"], facts["seed"], facts["sizes"], facts["skipped"]) == ("seeded", 0, sizes, 0)
    assert set(lists.train.paths) <= set(lists.database.paths)
    text = capsys.readouterr().out
    assert f"{len(original.labels)} images (the paper's {len(original.labels)})" in text
    assert facts["sha256"][:16] in text
    assert not (out / "skipped.txt").exists() and not list(tmp_path.glob("made/.*"))


def test_lists_lead_to_the_images_by_relative_paths_and_make_no_copy(coco_original, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(coco_original.folder)
    monkeypatch.chdir(tmp_path)
    assert main(command("coco", "--data-dir", "link", "--out", "out")) == 0
    lines = (tmp_path / "out" / "database_img.txt").read_text().splitlines()
    assert len(lines) == 4 and all(line.startswith("../coco/") and line.endswith(".jpg") for line in lines)
    assert not list((tmp_path / "out").rglob("*.jpg"))
    # The folder and the images may move together.
    (tmp_path / "moved").mkdir()
    for name in ("coco", "out"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert found_labels(tmp_path / "moved" / "out") == coco_original.labels


def test_images_of_an_archive_are_written_beside_the_lists(flickr_original, tmp_path):
    assert main(command("flickr25k", "--data-dir", flickr_original.folder, "--out", tmp_path / "out")) == 0
    assert {path.name for path in (tmp_path / "out" / "images").iterdir()} == {f"im{i}.jpg" for i in range(1, 13)}
    assert all(line.startswith("images/im") for line in (tmp_path / "out" / "test_img.txt").read_text().splitlines())


def test_archives_and_folders_give_one_split(flickr_original, tmp_path):
    digests = []
    for name in ("packed", "unpacked"):
        prepare.prepare(command("flickr25k", "--data-dir", flickr_original.folder, "--out", tmp_path / name))
        digests.append(json.loads((tmp_path / name / "split.json").read_text())["sha256"])
        if name == "packed":
            flickr_original.unpack()
    lists = [
        (tmp_path / "unpacked" / f"{split}_img.txt").read_text().split() for split in ("train", "database", "test")
    ]
    expected = "".join(
        f"{split}\n" + "".join(f"{os.path.basename(line)}\n" for line in lines)
        for split, lines in zip(("train", "database", "test"), lists, strict=True)
    )
    assert digests == [hashlib.sha256(expected.encode()).hexdigest()] * 2


def test_24_columns_on_request(flickr_original, tmp_path):
    out = tmp_path / "out"
    assert main(command("flickr25k", "--data-dir", flickr_original.folder, "--out", out, "--columns", 24)) == 0
    assert len((out / "classes.txt").read_text().splitlines()) == 24
    assert len((out / "train_label.txt").read_text().splitlines()[0].split()) == 24


def test_missing_images_end_it_or_are_skipped_and_listed_when_asked(nus_original, tmp_path, capsys):
    (nus_original.folder / "Flickr/zoo/0000_7000.jpg").unlink()
    arguments = ("nus_wide", "--data-dir", nus_original.folder, "--out", tmp_path / "out")
    assert main(command(*arguments)) == 2
    assert "0000_7000.jpg" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main(command(*arguments, "--skip-missing")) == 0
    assert (tmp_path / "out" / "skipped.txt").read_text() == "zoo/0000_7000.jpg\n"
    assert "24 images (the paper's 25)" in (text := capsys.readouterr().out) and "1 images were skipped" in text
    assert json.loads((tmp_path / "out" / "split.json").read_text())["skipped"] == 1
    assert "0000_7000.jpg" not in found_labels(tmp_path / "out")


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_a_truncated_image_ends_it_and_nothing_is_left(flickr_original, tmp_path, capsys, packed):
    flickr_original.unpack()
    image = flickr_original.folder / "mirflickr" / "im7.jpg"
    image.write_bytes(image.read_bytes()[:200])
    if packed:
        shutil.make_archive(flickr_original.folder / "mirflickr25k", "zip", flickr_original.folder, "mirflickr")
        shutil.rmtree(flickr_original.folder / "mirflickr")
    assert main(command("flickr25k", "--data-dir", flickr_original.folder, "--out", tmp_path / "out")) == 2
    assert "im7.jpg" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"flickr"}


def test_an_official_split_takes_the_users_lists(coco_original, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    names = sorted(coco_original.labels)
    for split, wanted in {"test": names[:1], "train": names[3:], "database": names[:3]}.items():
        (lists / f"{split}_img.txt").write_text("".join(f"x/{name}\n" for name in wanted))
        rows = [
            ["0"] * (80 - len(coco_original.labels[name])) + ["1"] * len(coco_original.labels[name]) for name in wanted
        ]
        (lists / f"{split}_label.txt").write_text("".join(" ".join(row) + "\n" for row in rows))
    # Rows with the right counts in the wrong columns are caught.
    arguments = ["coco", "--data-dir", coco_original.folder, "--split", "official", "--lists", lists]
    with pytest.raises(DataError, match="no order of the columns"):
        prepare.prepare(command(*arguments, "--out", tmp_path / "out", "--database", "joined"))
    for split, wanted in {"test": names[:1], "train": names[3:], "database": names[:3]}.items():
        rows = [[str(int(c in coco_original.labels[name])) for c in sorted(CLASS_NAMES)] for name in wanted]
        (lists / f"{split}_label.txt").write_text("".join(" ".join(row) + "\n" for row in rows))
    _, made = prepare.prepare(command(*arguments, "--out", tmp_path / "out", "--database", "joined"))
    assert [[path.name for path in split.paths] for split in (made.test, made.database, made.train)] == [
        names[:1], names[1:], names[3:],
    ]  # fmt: skip
    assert found_labels(tmp_path / "out") == coco_original.labels
    facts = json.loads((tmp_path / "out" / "split.json").read_text())
    assert (facts["split"], facts["database"], facts["lists"]) == ("official", "joined", str(lists))


def test_an_existing_folder_is_left_as_it_is(coco_original, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("kept")
    assert main(command("coco", "--data-dir", coco_original.folder, "--out", tmp_path / "out")) == 2
    assert "is not overwritten" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kept"]


@pytest.mark.parametrize(
    "name, fetched", [("coco", "train2014.zip"), ("flickr25k", "mirflickr25k.zip"), ("nus_wide", "Groundtruth.zip")]
)
@pytest.mark.parametrize("given", [None, "no_such_folder"])
def test_without_data_it_says_what_to_fetch(tmp_path, capsys, monkeypatch, name, fetched, given):
    monkeypatch.chdir(tmp_path)
    assert main(command(name, "--out", "out", *(["--data-dir", given] if given else []))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and fetched in error and (given or "") in error
    assert not list(tmp_path.iterdir())


def test_a_download_and_a_folder_exclude_each_other(coco_original, tmp_path, capsys):
    assert main(command("coco", "--data-dir", coco_original.folder, "--out", tmp_path / "out", "--download")) == 2
    assert "one or the other" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_runs_as_users_type_it(coco_original, tmp_path):
    arguments = [sys.executable, "-m", "saat_tf.data.prepare", "coco", "--data-dir", coco_original.folder, "--out"]
    done = subprocess.run([*arguments, tmp_path / "out"], cwd=ROOT, capture_output=True, text=True, check=False)
    # Five images are too few for the paper's split.
    assert done.returncode == 2 and "error: expected 5,000 queries. Received: 5 images" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
