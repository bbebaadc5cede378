"""Validation: every fault of made folders, and those of the official lists, found with file and line."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import rich.console
import tyro
from PIL import Image

from saat_tf.data.validate import Validate, main
from saat_tf.data.validation.inspection import inspect_folder
from saat_tf.metrics import chance_map

HASH_LISTS = Path(__file__).parents[5] / "shared/data/hash_lists"
IMAGES = {"train": ["a.png", "b.png"], "database": ["a.png", "b.png", "c.png"], "test": ["d.png", "e.png"]}
LABELS = {"train": ["1 0", "0 1"], "database": ["1 0", "0 1", "1 1"], "test": ["1 0", "0 1"]}


def write(folder, name, lines):
    contents = "".join(f"{line}\n" for line in lines).encode()
    (folder / name).write_bytes(gzip.compress(contents) if name.endswith(".gz") else contents)


@pytest.fixture
def folder(tmp_path):
    for number, split in enumerate(IMAGES):
        write(tmp_path, f"{split}_img.txt", IMAGES[split])
        write(tmp_path, f"{split}_label.txt", LABELS[split])
        for shade, image in enumerate(IMAGES[split]):
            Image.new("L", (9, 7), 80 * (number // 2) + 20 * shade).save(tmp_path / image)
    return tmp_path


def faults(folder, **options):
    """Level, text and places of all faults."""
    inspections, of_folder = inspect_folder(folder, **options)
    found = [*of_folder, *(fault for inspection in inspections for fault in inspection.faults)]
    return [(fault.level, fault.text, list(fault.places)) for fault in found]


def run(folder, *arguments):
    """The exit code and the output of the command."""
    console = rich.console.Console(file=io.StringIO(), width=200)
    return main(tyro.cli(Validate, args=[str(folder), *arguments]), console), console.file.getvalue()


def test_a_sound_folder_is_clean_and_counted(folder):
    assert faults(folder) == []
    code, output = run(folder, "--strict")
    assert code == 0
    # Of each query, two of three database images share the label.
    assert "Chance MAP: 0.6667" in output and "0 errors, 0 warnings." in output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    assert rows == [
        ["train", "2", "2", "2", "1.00", "1", "1", "0"],
        ["database", "3", "3", "2", "1.33", "1", "2", "0"],
        ["test", "2", "2", "2", "1.00", "1", "1", "0"],
        ["label 0", "1", "2", "1"],
        ["label 1", "1", "2", "1"],
    ]


@pytest.mark.parametrize(
    "name, lines, level, text, places",
    [
        ("train_img.txt", ["a.png", "./a.png"], "warning", "2 rows with 1 distinct images",
         ["train_img.txt:2: ./a.png (also line 1)"]),
        ("train_label.txt", ["1 0", "0 0"], "warning", "1 of 2 train rows have no label", ["train_label.txt:2: b.png"]),
        ("test_label.txt", ["0 0", "0 1"], "warning", "1 of 2 queries have no label", ["test_label.txt:1: d.png"]),
        ("test_label.txt", ["0 0", "0 1"], "warning", "count AP 0: MAP is at most 0.5",
         ["test_label.txt:1: d.png"]),
        ("train_label.txt", ["1 0", "1 1"], "warning", "1 rows label an image otherwise",
         ["database_label.txt:2: b.png (otherwise at train_label.txt:2)"]),
        ("test_img.txt", ["d.png", "c.png"], "error", "database_img.txt: contains 1 of the 2 queries",
         ["test_img.txt:2: c.png (database_img.txt:3)"]),
        ("test_img.txt", ["b.png", "e.png"], "error", "train_img.txt: contains 1 of the 2 queries",
         ["test_img.txt:1: b.png (train_img.txt:2)"]),
        ("database_img.txt", ["a.png", "f.png", "c.png"], "warning", "lacks 1 of the 2 train rows",
         ["train_img.txt:2: b.png"]),
        ("database_img.txt", ["a.png", "b.png", "gone.png"], "error", "1 rows name images that are not there",
         ["database_img.txt:3: gone.png"]),
        ("database_img.txt", ["a.png", "", "c.png"], "error", "1 blank lines", ["database_img.txt:2"]),
        ("database_label.txt", ["1 0", "0", "1 1"], "error", "1 rows are not of 2 values",
         ["database_label.txt:2: 1 values"]),
        ("database_label.txt", ["1 0", "0 2", "1 1"], "error", "1 rows contain other values",
         ["database_label.txt:2: '2'"]),
        ("test_label.txt", ["1 0 0", "0 1 0"], "error", "test_label.txt has 3", []),
        ("test_label.txt", ["1 0"], "error", "test_label.txt has 1 lines and test_img.txt has 2", []),
        ("test_img.txt", [], "error", "test_img.txt: the list is empty", []),
        ("classes.txt", ["cat"], "error", "1 class names for 2 label columns", []),
        ("VOC_train.txt.gz", ["a.png 1 0"], "warning", "VOC_train.txt.gz: not read", []),
        ("train_img.txt.gz", ["a.png"], "warning", "train_img.txt.gz: not read, as train_img.txt is", []),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(folder, name, lines, level, text, places):
    write(folder, name, lines)
    Image.new("L", (9, 7)).save(folder / "f.png")
    found = faults(folder)
    assert [
        found_places for found_level, found_text, found_places in found if found_level == level and text in found_text
    ] == [places], found
    code, output = run(folder, "--strict")
    assert code == (2 if any(found_level == "error" for found_level, _, _ in found) else 1)
    assert text in output and all(place in output for place in places)


def test_warnings_exit_with_0_unless_strict(folder):
    write(folder, "train_label.txt", ["1 0", "0 0"])
    assert [run(folder, *options)[0] for options in ((), ("--strict",))] == [0, 1]


def test_a_missing_list_hides_no_other_fault(folder):
    (folder / "database_label.txt").unlink()
    write(folder, "train_label.txt", ["1 0", "0 0"])
    found = faults(folder)
    assert ("error", "database_label.txt: missing. Every split needs both lists.", []) in found
    assert any("1 of 2 train rows have no label" in text for _, text, _ in found)
    assert "Chance MAP: not known" in run(folder)[1]


def test_an_unreadable_image_is_told_at_each_of_its_lines_unless_nothing_is_to_be_decoded(folder):
    contents = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(contents[: len(contents) // 2])
    ((level, text, places),) = faults(folder)
    assert level == "error" and "2 rows name images that cannot be read" in text
    assert [place.split(": ")[0] for place in places] == ["train_img.txt:1", "database_img.txt:1"]
    assert run(folder)[0] == 2 and run(folder, "--no-decode", "--strict")[0] == 0


@pytest.mark.parametrize("options, level", [((), ["warning"]), (("--no-decode",), [])])
def test_lists_without_any_image_are_checked_alone(folder, options, level):
    for image in folder.glob("*.png"):
        image.unlink()
    assert [found for found, _, _ in faults(folder, decode="--no-decode" not in options)] == level
    assert run(folder, *options)[0] == 0


@pytest.mark.parametrize("contents", [b"\xe9.png\n", b"\xff\xfe"], ids=["latin-1", "UTF-16"])
@pytest.mark.parametrize("name", ["train_img.txt", "train_label.txt", "classes.txt"])
def test_a_list_that_is_no_text_is_told(folder, name, contents):
    (folder / name).write_bytes(contents)
    assert any(level == "error" and f"{name}: not a UTF-8 text file" in text for level, text, _ in faults(folder))


def test_a_damaged_gzip_file_is_told(folder):
    (folder / "train_img.txt").unlink()
    (folder / "train_img.txt.gz").write_bytes(gzip.compress(b"a.png\nb.png\n")[:-9])
    assert any("train_img.txt.gz: not a whole gzip file" in text for _, text, _ in faults(folder))


@pytest.mark.parametrize("name", ["nothing", "no_folder"])
def test_a_folder_without_lists_or_no_folder_is_an_error(tmp_path, name, capsys):
    (tmp_path / "nothing").mkdir()
    code, output = run(tmp_path / name)
    assert code == 2 and name in output + capsys.readouterr().err


def test_only_the_first_places_are_shown_unless_all_are_asked_for(folder):
    write(folder, "train_img.txt", ["a.png"] * 9)
    write(folder, "train_label.txt", ["1 0"] * 9)
    assert "and 3 more" in run(folder)[1]
    assert "train_img.txt:9:" in run(folder, "--every-place")[1]


def test_a_path_like_markup_is_shown_as_it_is(folder):
    write(folder, "train_img.txt", ["[red]a.png", "b.png"])
    assert "train_img.txt:1: [red]a.png" in run(folder)[1]


@pytest.fixture(scope="module")
def official():
    if not HASH_LISTS.is_dir():
        pytest.skip("the official lists are not beside this checkout")
    inspections, of_folder = inspect_folder(HASH_LISTS, decode=False)
    return {inspection.name.rstrip("_"): inspection for inspection in inspections}, of_folder


def lines_of(name):
    return gzip.decompress((HASH_LISTS / name).read_bytes()).decode().splitlines()


def texts(inspection):
    return {fault.text.split(". ")[0]: (fault.level, len(fault.places)) for fault in inspection.faults}


@pytest.mark.slow
def test_the_faults_of_flickr_25k_are_found(official):
    found = texts(official[0]["FLICKR-25K"])
    (repeats,) = (
        text for text in found if "FLICKR-25K_train_img.txt.gz: 5,000 rows with 4,496 distinct images" in text
    )
    assert found[repeats] == ("warning", 504)
    assert found["FLICKR-25K_test_label.txt.gz: 38 of 1,700 queries have no label."] == ("warning", 38)
    assert found["FLICKR-25K_train_label.txt.gz: 95 of 5,000 train rows have no label."] == ("warning", 95)
    bare = [i + 1 for i, row in enumerate(lines_of("FLICKR-25K_test_label.txt.gz")) if "1" not in row]
    (fault,) = (
        fault for fault in official[0]["FLICKR-25K"].faults if "38 of 1,700 queries have no label" in fault.text
    )
    assert [int(place.split(":")[1]) for place in fault.places] == bare


def test_the_faults_of_hashnet_s_coco_are_found(official):
    found = texts(official[0]["HashNet-COCO"])
    assert found["HashNet-COCO_database_img.txt.gz: contains 5,000 of the 5,000 queries"] == ("error", 5000)
    assert found["HashNet-COCO_database_img.txt.gz: lacks 10,000 of the 10,000 train rows"] == ("warning", 10000)


@pytest.mark.parametrize("name", ["MS-COCO", "NUS-WIDE"])
def test_lists_without_a_database_are_read_as_far_as_they_go(official, name):
    assert [split.name for split in official[0][name].splits] == ["train", "test"]
    assert f"{name}_database_img.txt: missing" in texts(official[0][name])


def test_lists_of_another_shape_are_named(official):
    named = {fault.text.split(":")[0] for fault in official[1]}
    assert named == {f"VOC2012_{split}.txt.gz" for split in ("train", "database", "test")}


def test_chance_is_that_of_the_metric(official):
    labels = {
        split: np.array([row.split() for row in lines_of(f"FLICKR-25K_{split}_label.txt.gz")], np.float32)
        for split in ("test", "database")
    }
    expected = chance_map(labels["test"], labels["database"])
    assert official[0]["FLICKR-25K"].chance_map == pytest.approx(expected, abs=1e-9)
