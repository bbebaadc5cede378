"""What README and docs say works: their Python runs, their commands parse, their files exist, their figures agree."""

import re
import shlex
import tomllib
import typing
from pathlib import Path

import pytest
import tyro

from export import index
from export.client import ClientOptions
from export.demo.__main__ import DemoOptions
from export.encode import EncodeOptions
from export.from_torch import TorchImport
from export.saved_model import SavedModelExport
from export.serving.__main__ import ServingExport
from export.tflite import TFLiteExport
from saat_tf.data import prepare, validate
from tests.small_graphs import small_graphs
from trainers.comdefend import ComDefendOptions
from trainers.evaluate import EvaluationOptions
from trainers.recipes.certify_options import CertifyOptions
from trainers.recipes.corel5k import Corel5kRecipe
from trainers.recipes.folders import FoldersRecipe
from trainers.recipes.pretrain_recipe import PretrainRecipe
from trainers.recipes.published import CocoRecipe
from trainers.recipes.scenes import ScenesRecipe
from trainers.sweep import read_command_line

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = {
    "trainers.scenes": ScenesRecipe,
    "trainers.coco": CocoRecipe,
    "trainers.corel5k": Corel5kRecipe,
    "trainers.folders": FoldersRecipe,
    "trainers.evaluate": EvaluationOptions,
    "trainers.certify": CertifyOptions,
    "saat_tf.data.prepare": prepare.Command,
    "saat_tf.data.validate": validate.Validate,
    "trainers.comdefend": ComDefendOptions,
    "trainers.pretrain": PretrainRecipe,
    "export.saved_model": SavedModelExport,
    "export.serving": ServingExport,
    "export.client": ClientOptions,
    "export.tflite": TFLiteExport,
    "export.encode": EncodeOptions,
    "export.index": index.Command,
    "export.demo": DemoOptions,
    "export.from_torch": TorchImport,
}


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(*texts):
    code = "\n".join(block for text in texts for block in blocks(text, "bash"))
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("command", commands(README, COMMANDS), ids=" ".join)
def test_each_command_is_one_that_exists(command):
    if command[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert command[1] in targets
        return
    if command[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(re.fullmatch(r"\.\[(.*)\]", command[2])[1].split(",")) <= set(extras)
        return
    python, flag, module, *options = command
    assert (python, flag) == ("python", "-m")
    if module.startswith("benchmarks."):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file() and not options
        return
    if module == "trainers.sweep":
        assert isinstance(read_command_line(options)[1], ScenesRecipe)
        return
    parsed = tyro.cli(OPTIONS[module], args=[option for option in options if option != "--help"])
    kinds = typing.get_args(OPTIONS[module]) or (OPTIONS[module],)
    assert isinstance(parsed, tuple((typing.get_origin(kind) and typing.get_args(kind)[0]) or kind for kind in kinds))


def test_there_are_commands_to_try():
    assert {command[0] for command in commands(README, COMMANDS)} == {"make", "pip", "python"}
    assert set(OPTIONS) - {"trainers.scenes"} <= {command[2] for command in commands(COMMANDS) if len(command) > 2}


def test_the_first_commands_of_readme_are_to_install_and_to_try():
    first, *rest = commands(README)
    assert first[:2] == ["pip", "install"]
    assert [command[2] for command in rest[:2]] == ["trainers.scenes", "export.demo"]


@pytest.mark.slow
def test_the_python_runs(tmp_path, monkeypatch, capsys):
    """Run the example of README and its continuation in docs/python.md, which repeats it."""
    first, *others = blocks((ROOT / "docs/python.md").read_text(encoding="utf-8"), "python")
    assert "SAAT(" in first and "keras.Sequential(" in first and blocks(README, "python") == [first]
    assert "mainstay_attack(" in others[-1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(first, "README.md", "exec"), names)
    table = capsys.readouterr().out
    assert all(name in table for name in ("clean", "mainstay", "worst case", "chance"))
    for number, block in enumerate(others):
        exec(compile(block, f"docs/python.md, {number}", "exec"), names)
    assert sorted(file.name for file in Path("presets/mine").iterdir())[-1] == "model.safetensors"


@pytest.mark.slow
def test_the_python_of_training_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    with small_graphs():
        for block in blocks((ROOT / "docs/training.md").read_text(encoding="utf-8"), "python"):
            exec(compile(block, "docs/training.md", "exec"), names)
    assert set(names["history"].history) > {"loss", "hashing_loss", "val_map", "val_robust_map"}
    assert (tmp_path / "checkpoints").is_dir()


def test_readme_is_short():
    assert len(README.splitlines()) <= 150
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line]) <= 20


def test_the_results_of_readme_are_those_of_the_results_page():
    """Compare each MAP of the table with the column of its model in docs/results.md, a mean over the seeds."""
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8").partition("## SAAT beside the other models")[2]
    header, _, *rows = [line.strip("| ").split(" | ") for line in results.splitlines() if line.startswith("|")][:7]
    measured = {
        row[0]: dict(zip(header[1:], (cell.split()[0].strip("*") for cell in row[1:]), strict=True)) for row in rows
    }
    names = {"undefended": "undefended", "SAAT, as published": "SAAT", "SAAT, `--recipe strong`": "SAAT, strong"}
    attacks = ("no attack", "mainstay (SAAT's)", "worst case per query")
    table = README.partition("## Results on photographs")[2].partition("## ")[0]
    stated = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")][2:]
    assert stated == [
        [shown, *(measured[attack][model] for attack in attacks), "0.207"] for shown, model in names.items()
    ]


def anchors(page):
    """The anchors that GitHub gives to the headings of a page: lower case, hyphens for spaces, no other marks."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    assert links or page.name == "images.md"
    for file, anchor in links:
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"
