"""Reading a file that may be anything, so that it stops nothing."""

import os
import stat

from saat_tf.data.decoding.header import MAX_PIXELS

# No image of MAX_PIXELS has a longer file, in any format; longer files are not read into memory.
MAX_FILE_BYTES = 8 * MAX_PIXELS


def read_file(path: str | os.PathLike, max_bytes: int = MAX_FILE_BYTES) -> tuple[bytes, str | None]:
    """Return the contents of a file and None, or nothing and why it was not read."""
    try:
        # A pipe without a writer would block for ever, had it to be opened first.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return b"", "it is no file"
        if status.st_size > max_bytes:
            return b"", f"it has {status.st_size:,} bytes, at most {max_bytes:,} are read"
        with open(path, "rb") as file:
            return file.read(max_bytes), None
    except (OSError, ValueError) as error:
        return b"", (getattr(error, "strerror", None) or str(error)).lower()
