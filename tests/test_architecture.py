"""How the project is built: imports point one way, the library is silent, public parts are explained by examples."""

import ast
import doctest
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "saat_tf"
FILES = sorted(LIBRARY.rglob("*.py"))
NAMES = [str(file.relative_to(ROOT)) for file in FILES]
TREES = dict(zip(NAMES, (ast.parse(file.read_text(encoding="utf-8")) for file in FILES), strict=True))
# The programs that use the library, and what is theirs alone: reading the command line and writing to the terminal.
NOT_IN_LIBRARY = {
    "trainers",
    "export",
    "benchmarks",
    "tests",
    "argparse",
    "click",
    "getopt",
    "optparse",
    "tyro",
    "rich",
}
# Programs inside the library, and what they share with the others: they read the command line and print.
PROGRAMS = {"saat_tf/command_line.py", "saat_tf/data/prepare.py", "saat_tf/data/validate.py"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_library_is_where_it_is_looked_for():
    assert {"saat_tf/codes.py", "saat_tf/data/decoding/decode.py", "saat_tf/models/saat.py"} <= set(NAMES)


def test_imports_point_one_way():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_of_the_library_has_its_layer():
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    assert set(linter["root_packages"]) == {"saat_tf", "trainers", "export"}
    (contract,) = (contract for contract in linter["contracts"] if "containers" not in contract)
    layered = {part for layer in contract["layers"] for part in layer.replace("|", " ").replace(":", " ").split()}
    parts = {f"saat_tf.{path.stem}" for path in LIBRARY.glob("*.py") if path.stem != "__init__"}
    parts |= {f"saat_tf.{path.parent.name}" for path in LIBRARY.glob("*/__init__.py")}
    assert parts | {"trainers", "export"} == layered


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("name", sorted(set(NAMES) - PROGRAMS))
def test_the_library_imports_no_program_and_no_terminal(name):
    assert not NOT_IN_LIBRARY & set(imported(TREES[name]))


def called(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", None)


@pytest.mark.parametrize("name", sorted(set(NAMES) - PROGRAMS))
def test_the_library_prints_nothing_and_never_exits(name):
    assert not {"print", "pprint", "exit", "_exit", "breakpoint", "input"} & set(called(TREES[name]))


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_no_part_of_the_library_imports_a_program_of_it(name):
    module = name.removesuffix(".py").replace("/", ".")
    for library in set(NAMES) - PROGRAMS:
        assert module not in {node.module for node in ast.walk(TREES[library]) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("name", NAMES)
def test_the_library_raises_rather_than_asserts(name):
    assert not [node.lineno for node in ast.walk(TREES[name]) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_public_has_a_docstring(name):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in TREES[name].body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert not [node.name for node in public if not ast.get_docstring(node)]
    assert ast.get_docstring(TREES[name])


def prompts(name):
    return sum(line.lstrip().startswith(">>> ") for line in (ROOT / name).read_text(encoding="utf-8").splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if prompts(name)])
def test_the_examples_of_docstrings_run(name):
    module = importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    tests = doctest.DocTestFinder().find(module)
    # doctest passes over objects that it does not recognize, such as cached functions.
    assert sum(len(test.examples) for test in tests) == prompts(name)
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_most_parts_of_the_library_show_an_example():
    assert sum(bool(prompts(name)) for name in NAMES) > 15
