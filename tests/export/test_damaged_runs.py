"""A run with a damaged model or card: every program that loads a run says the same of it, and ends with 2."""

import shutil

import pytest

import export.serving.__main__ as serving
from export import saved_model, tflite
from trainers import comdefend, evaluate


def evaluate_run(run_dir, out):
    return evaluate.main(evaluate.EvaluationOptions(run_dir=run_dir, attacks=("hag",), num_steps=(1,)))


def defend_run(run_dir, out):
    return comdefend.main(comdefend.ComDefendOptions(run_dir=run_dir, behind="robust", epochs=1))


def export_run(run_dir, out):
    return saved_model.main(saved_model.SavedModelExport(run_dir=run_dir, out=out))


def serve_run(run_dir, out):
    return serving.main(serving.ServingExport(run_dir=run_dir, out=out, version=1))


def convert_run(run_dir, out):
    return tflite.main(tflite.TFLiteExport(run_dir=run_dir, out=out))


def show_run(run_dir, out):
    demo = pytest.importorskip("export.demo.__main__", reason="gradio is not installed", exc_type=ImportError)
    return demo.main(demo.DemoOptions(run_dir=run_dir))


PROGRAMS = [evaluate_run, defend_run, export_run, serve_run, convert_run, show_run]


@pytest.fixture
def run_dir(small_run, tmp_path):
    copy = shutil.copytree(small_run, tmp_path / "run")
    shutil.copy(copy / "robust.keras", copy / "hashing.keras")
    return copy


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_damaged_model_is_named(program, run_dir, tmp_path, capsys):
    for name in ("hashing.keras", "robust.keras"):
        content = (run_dir / name).read_bytes()
        # The directory of the archive stays whole: what is damaged lies in its parts.
        (run_dir / name).write_bytes(b"\0" * 2000 + content[2000:])
    assert program(run_dir, tmp_path / "out") == 2
    assert ".keras: cannot be read as a model (" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_damaged_card_is_named(program, run_dir, tmp_path, capsys):
    (run_dir / "card.json").write_text('{"a":' * 10_000)
    assert program(run_dir, tmp_path / "out") == 2
    message = f"error: {run_dir / 'card.json'}: no JSON that is read here (it is nested in more than 100 levels). "
    assert capsys.readouterr().err == f"{message}It is not the card of a run: restore it, or repeat the run.\n"
