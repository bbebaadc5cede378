"""Exit codes of the programs, and the one place that maps errors to them."""

import sys
import types

from saat_tf.printable import printable

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130


class ExitCode:
    """Context that turns errors of options, data and files into a message and an exit code.

    After the block `code` is 0; `USAGE_ERROR` where it raised `ValueError`, `OSError`, `ImportError` or one of
    `others`; `INTERRUPTED` where it was interrupted by Ctrl-C. Any other error is a fault of the program and is raised.

    Args:
        others: further classes of errors that a user can cause.

    Example:
        >>> with ExitCode() as outcome:
        ...     pass
        >>> outcome.code
        0
    """

    def __init__(self, *others: type[Exception]) -> None:
        self.errors: tuple[type[Exception], ...] = (ValueError, OSError, ImportError, *others)
        self.code = 0

    def __enter__(self) -> "ExitCode":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> bool:
        if isinstance(error, self.errors):
            print(f"error: {printable(str(error), keep=chr(10))}", file=sys.stderr)
            self.code = USAGE_ERROR
        elif isinstance(error, KeyboardInterrupt):
            print("Interrupted.", file=sys.stderr)
            self.code = INTERRUPTED
        return self.code != 0
