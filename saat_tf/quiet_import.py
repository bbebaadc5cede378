"""What TensorFlow logs for information when it is imported, whatever its log level.

It does so before its logging is set up (`absl::InitializeLog`), which reads the level.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence

# A process of its own passes the other lines on, so that they are shown even where the import aborts the process.
FILTER = """
import re, sys
hidden = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
    if not hidden.match(line):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""

HIDDEN = "WARNING: All log messages before absl::InitializeLog|I[0-9]{4} [0-9:.]+ "
# After the import, for the last lines to be passed on.
SECONDS = 5


def hide_import_lines() -> None:
    """Hide what TensorFlow logs for information when it is imported."""
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as the other finders do, once, and hides what its import logs."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        with _filtered_errors():
            super().exec_module(module)


@contextlib.contextmanager
def _filtered_errors() -> Iterator[None]:
    """Leave the lines that `HIDDEN` matches out of standard error, where libraries in C write by its number."""
    try:
        errors = os.dup(2)
    except OSError:  # closed: nothing is shown anyway
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    passing = subprocess.Popen([sys.executable, "-IS", "-c", FILTER, HIDDEN], stdin=subprocess.PIPE, stdout=errors)
    os.dup2(passing.stdin.fileno(), 2)  # type: ignore[union-attr]  # of a process with a pipe it is there
    passing.stdin.close()  # type: ignore[union-attr]
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        # It ends at once, unless a process that was started meanwhile still writes to it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            passing.wait(SECONDS)
