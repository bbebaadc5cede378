"""Which error gives which exit code."""

import subprocess
import sys

import pytest

from saat_tf.command_line import INTERRUPTED, USAGE_ERROR, ExitCode


@pytest.mark.parametrize(
    "error, code, message",
    [
        (None, 0, ""),
        (ValueError("--bits must be at least 1."), USAGE_ERROR, "error: --bits must be at least 1.\n"),
        (FileNotFoundError("x: no such file."), USAGE_ERROR, "error: x: no such file.\n"),
        (ImportError("pip install it"), USAGE_ERROR, "error: pip install it\n"),
        (RuntimeError("a process died"), USAGE_ERROR, "error: a process died\n"),
        (KeyboardInterrupt(), INTERRUPTED, "Interrupted.\n"),
    ],
)
def test_errors_of_users_become_a_message_and_a_code(error, code, message, capsys):
    with ExitCode(RuntimeError) as outcome:
        if error is not None:
            raise error
    assert outcome.code == code
    assert capsys.readouterr().err == message


def test_faults_of_the_program_are_raised():
    with pytest.raises(RuntimeError), ExitCode():
        raise RuntimeError("a fault")


def test_what_needs_no_tensorflow_imports_none():
    modules = "saat_tf, saat_tf.files, saat_tf.command_line"
    code = f"import sys, {modules}; print(sorted({{'tensorflow', 'keras', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
