"""Worker processes for timings that need another framework, another setting of TensorFlow."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]


class Worker:
    """A process that does one step whenever it is called.

    The process runs a module that ends in `serve`. It is made ready (compiled, warmed up) before this returns, and ends
    with the `with` block.

    Args:
        module: what to run, with `python -m`.
        arguments: of the module.
        environment: variables on top of this process's own.
        python: the interpreter.

    Raises:
        RuntimeError: the process ended; its last line of errors is in the message.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **(environment or {})},
            cwd=ROOT,
        )
        self.facts: dict = self._answer()

    def __call__(self) -> dict:
        """Do a step, and return what it returned."""
        print("step", file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        # Libraries print what they like; an answer is a line that is an object.
        for line in self.process.stdout or ():
            if line.startswith("{"):
                return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"The process ended with code {code}.")

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def options_of(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return what a command line takes for some values.

    Example:
        >>> options_of({"bits": 32})
        ('--bits', '32')
    """
    return tuple(part for name, value in values.items() for part in (f"--{name}", str(value)))


def serve(step: Callable[[], dict], facts: dict) -> None:
    """In the process: tell that it is ready, then do a step for each line that comes in, until there are no more."""
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        answer = step()
        print(json.dumps({**answer, "seconds": time.perf_counter() - started}), flush=True)
