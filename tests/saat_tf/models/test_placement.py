"""Imitation of a GPU: a step runs on one logical CPU; what TensorFlow would keep on the host lies on another."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_step_reads_no_variable_that_a_gpu_cannot_hold():
    program = Path(__file__).with_name("placement_program.py")
    code = f"import runpy; runpy.run_path({str(program)!r})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
