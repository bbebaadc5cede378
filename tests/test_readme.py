"""What README says works: its Python runs, its commands parse, its files exist."""

import re
import shlex
import typing
from pathlib import Path

import pytest
import tyro

from export import index
from export.client import ClientOptions
from export.demo.__main__ import DemoOptions
from export.encode import EncodeOptions
from export.saved_model import SavedModelExport
from export.serving.__main__ import ServingExport
from export.tflite import TFLiteExport
from saat_tf.data import prepare, validate
from trainers.coco import CocoRecipe
from trainers.comdefend import ComDefendOptions
from trainers.corel5k import Corel5kRecipe
from trainers.evaluate import EvaluationOptions
from trainers.scenes import ScenesRecipe
from trainers.sweep import read_command_line

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPTIONS = {
    "trainers.scenes": ScenesRecipe,
    "trainers.coco": CocoRecipe,
    "trainers.corel5k": Corel5kRecipe,
    "trainers.evaluate": EvaluationOptions,
    "saat_tf.data.prepare": prepare.Command,
    "saat_tf.data.validate": validate.Validate,
    "trainers.comdefend": ComDefendOptions,
    "export.saved_model": SavedModelExport,
    "export.serving": ServingExport,
    "export.client": ClientOptions,
    "export.tflite": TFLiteExport,
    "export.encode": EncodeOptions,
    "export.index": index.Command,
    "export.demo": DemoOptions,
}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands():
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_each_command_is_one_that_exists(command):
    if command[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert command[1] in targets
        return
    python, flag, module, *options = command
    assert (python, flag) == (".venv/bin/python", "-m")
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
    assert {command[0] for command in commands()} == {"make", ".venv/bin/python"}
    assert set(OPTIONS) - {"trainers.scenes"} <= {command[2] for command in commands() if len(command) > 2}


def test_the_python_runs():
    code = "\n".join(blocks("python"))
    assert "SAAT(" in code and "mainstay_attack(" in code
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["packed_codes"].shape == (200, 4)


def test_linked_files_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
