"""Replies of a server, by either protocol, and the errors of a request."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

SIGNATURE = "encode_bytes"
# The largest answer that is read: 32 images of 4,096 bits take 200 kB.
MAX_ANSWER = 64 * 2**20


class ServingError(Exception):
    """A request failed, and a retry would fail too."""


class BusyError(ServingError):
    """A request failed because the server could not be reached or was overloaded: a retry may succeed."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """Reply of the server to one image file.

    Args:
        code: K / 8 bytes, most significant bit first; zero where the file could not be read.
        ok: whether the file could be read as an image.
    """

    code: bytes
    ok: bool


class Client(Protocol):
    """Sends image files in one request."""

    def encode(self, files: Sequence[bytes]) -> list[Reply]:
        """Return a reply for each file, in order.

        Raises:
            BusyError: a retry may succeed.
            ServingError: a retry would fail too.
        """


def check_replies(replies: list[Reply], files: Sequence[bytes], where: str) -> list[Reply]:
    """Check that each file has its reply, and that all codes have one length.

    Raises:
        ServingError: the replies are not that.
    """
    if len(replies) != len(files):
        raise ServingError(f"{where}: {len(files)} files were sent and {len(replies)} answered.")
    if len(lengths := {len(reply.code) for reply in replies}) > 1:
        raise ServingError(f"{where}: not the answer of an encoder (codes of {sorted(lengths)} bytes).")
    return replies
