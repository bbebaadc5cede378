"""What is shown of an import of TensorFlow: of a package of its name that prints and ends as the cases say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from saat_tf.environment import LOG_LEVEL, NVIDIA_CARDS, ONEDNN

ROOT = Path(__file__).parents[2]
INFORMATION = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795857315.665374   23776 port.cc:153] oneDNN custom operations are on.\n"
)
ERROR = "E0000 00:00:1795857315.665970   23776 cuda_dnn.cc:8579] Unable to register cuDNN factory\n"
FATAL = "F0000 00:00:1795857315.7   23776 cpu_feature_guard.cc:110] compiled to use AVX, but it is not available\n"
FIRST = """
import os, sys
os.write(2, sys.argv[1].encode())
"""


def errors_of(tmp_path, body, text, program="import tensorflow", **environment):
    package = tmp_path / "tensorflow"
    package.mkdir()
    (package / "__init__.py").write_text(body, encoding="utf-8")
    paths = os.pathsep.join((str(tmp_path), str(ROOT)))
    others = {name: value for name, value in os.environ.items() if name != LOG_LEVEL}
    return subprocess.run(
        [sys.executable, "-c", f"from saat_tf import environment\n{program}", text],
        env={**others, "PYTHONPATH": paths, ONEDNN: "1", **environment},
        stderr=subprocess.PIPE, text=True, check=False,
    ).stderr  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "body", "text", "shown"),
    [
        ({}, FIRST, INFORMATION + ERROR + INFORMATION, ERROR),
        ({}, FIRST, "a library's own line\n" + INFORMATION + "another\n", "a library's own line\nanother\n"),
        ({}, FIRST + "os.abort()", INFORMATION + FATAL, FATAL),
        ({LOG_LEVEL: "0"}, FIRST, INFORMATION + ERROR, INFORMATION + ERROR),
    ],
    ids=["information", "other lines", "an import that ends the process", "a user who wants all"],
)
def test_information_is_hidden_and_all_else_is_shown(tmp_path, environment, body, text, shown):
    assert errors_of(tmp_path, body, text, **environment) == shown


def test_what_is_printed_before_and_after_the_import_is_shown_in_order(tmp_path):
    write = f"os.write(2, {INFORMATION!r}.encode())"
    program = f"import os, sys; {write}; import tensorflow; {write}; print('end', file=sys.stderr)"
    assert errors_of(tmp_path, FIRST, ERROR, program) == INFORMATION + ERROR + INFORMATION + "end\n"


def test_an_import_that_fails_says_so(tmp_path):
    shown = errors_of(tmp_path, FIRST + "raise ImportError('libcuda is broken')", INFORMATION)
    assert shown.startswith("Traceback") and shown.endswith("ImportError: libcuda is broken\n")


@pytest.mark.skipif(NVIDIA_CARDS.is_dir(), reason="errors of a GPU are shown")
@pytest.mark.slow
def test_tensorflow_itself_prints_nothing():
    # The check of a file makes TensorFlow look for GPUs, and for kernels of types that oneDNN does not have.
    program = "from saat_tf.data.decoding.tolerant_decode import decoding_fault; decoding_fault(b'')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout + done.stderr == ""
