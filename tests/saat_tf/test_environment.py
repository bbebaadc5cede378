"""One set of TensorFlow's switches, in whichever way the project is run."""

import ast
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import tensorflow  # noqa: F401  # so that there is something that was imported before
from tensorflow.python.util import _pywrap_util_port

from saat_tf import environment
from saat_tf.environment import DEFAULTS, ONEDNN, set_switches

ROOT = Path(__file__).parents[2]
PACKAGES = ("saat_tf", "trainers", "export", "benchmarks")
# What runs first of each way to run the project: a module, or a file.
ENTRANCES = {
    "the library, and README's Python": "import saat_tf.models",
    "a trainer": "import runpy; runpy.run_module('trainers.scenes', run_name='__main__')",
    "an export": "import runpy; runpy.run_module('export.saved_model', run_name='__main__')",
    "a worker process of the bulk encoder": "import multiprocessing.spawn; import export.bulk.shards",
    "a benchmark": "import runpy; runpy.run_module('benchmarks.step_worker', run_name='__main__')",
    "the tests": "import runpy; runpy.run_path('tests/conftest.py')",
}
OTHERS = {
    "TF_CPP_MIN_LOG_LEVEL": "2" if Path("/proc/driver/nvidia/gpus").is_dir() else "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
# Shows the switches that TensorFlow would read, in the moment in which it is imported, and imports it not.
AT_IMPORT = f"""
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            print(*(os.environ.get(switch) for switch in {tuple(DEFAULTS)}))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Finder())
"""


def switches_at_import(code, **set_by_user):
    others = {name: value for name, value in os.environ.items() if name not in DEFAULTS}
    done = subprocess.run(
        [sys.executable, "-c", AT_IMPORT + code], cwd=ROOT, env={**others, "PYTHONPATH": str(ROOT), **set_by_user},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize("code", ENTRANCES.values(), ids=ENTRANCES)
def test_every_way_to_run_the_project_has_the_same_switches_when_tensorflow_is_imported(code):
    assert switches_at_import(code) == ["1", *OTHERS.values()]
    by_user = {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "0", "TF_FORCE_GPU_ALLOW_GROWTH": "false"}
    assert switches_at_import(code, **by_user) == ["0", "0", "false"]


def test_these_tests_compute_as_the_processes_that_they_start():
    assert _pywrap_util_port.IsMklEnabled() == (os.environ[ONEDNN] == "1")


@pytest.mark.parametrize(
    ("before", "uses_onednn", "after", "warned"),
    [
        ({}, True, "1", False),
        ({}, False, "0", True),  # a processor without AVX-512: what is started is to compute like this process
        ({ONEDNN: "0"}, False, "0", False),
        ({ONEDNN: "1"}, True, "1", False),
    ],
)
def test_where_tensorflow_was_imported_before_its_choice_counts(
    monkeypatch, recwarn, before, uses_onednn, after, warned
):
    monkeypatch.setattr(environment, "_uses_onednn", lambda: uses_onednn)
    chosen = dict(before)
    set_switches(chosen)
    assert chosen == {**OTHERS, ONEDNN: after}
    assert [warning.category for warning in recwarn] == [UserWarning] * warned
    set_switches(chosen)  # and says so once
    assert len(recwarn) == warned


def test_where_tensorflow_comes_later_the_defaults_are_set(monkeypatch):
    monkeypatch.setattr(environment, "sys", types.SimpleNamespace(modules={}))
    chosen = {}
    set_switches(chosen)
    assert chosen == DEFAULTS == {**OTHERS, ONEDNN: "1"}


def test_no_other_file_sets_these_switches():
    setting = []
    for file in (file for package in (*PACKAGES, "tests") for file in (ROOT / package).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if any(name in text for name in DEFAULTS):
            setting.append(file.relative_to(ROOT).as_posix())
    # The two benchmarks measure what oneDNN makes of the speed.
    assert sorted(setting) == [
        "benchmarks/encoder.py",
        "benchmarks/saat_step.py",
        "saat_tf/environment.py",
        "tests/saat_tf/test_environment.py",
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_begins_by_setting_them(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    first = next(node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module != "typing")
    assert ast.unparse(first) == "from saat_tf.environment import set_switches"
    called = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Expr)]
    assert "set_switches()" in called
