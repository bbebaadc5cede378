"""Messages of workers that meet: a line of JSON each, bounded in size and time, and proofs of meaning the same run."""

import hashlib
import hmac
import json
import secrets
import socket
import time
from collections.abc import Mapping

from saat_tf.printable import printable
from saat_tf.strict_json import parse_json, wrong_fields

LONGEST_LINE = 1 << 16


class StrangerError(ValueError):
    """Message of a peer that is no worker."""


class Connection:
    """A socket that sends and receives messages until a deadline, however slowly the peer does.

    Args:
        connection: a connected socket.
        seconds: how long the whole exchange may take.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + seconds

    def send(self, **message: object) -> None:
        """Send a message.

        Raises:
            OSError: the peer is gone, or the deadline is past.
        """
        self._set_timeout()
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, **kinds: type) -> dict:
        """Receive a message that has these fields, by their types.

        Raises:
            StrangerError: the peer sends something else, or too much of it.
            OSError: the peer is gone, or the deadline is past.
        """
        line = b""
        while not line.endswith(b"\n"):
            self._set_timeout()
            piece = self.connection.recv(LONGEST_LINE)
            line += piece
            if not piece or len(line) > LONGEST_LINE:
                raise StrangerError(f"a message ends after {len(line)} bytes, or has more than {LONGEST_LINE}")
        try:
            message = parse_json(line, "a message")
        except ValueError as error:
            raise StrangerError(str(error)) from error
        if not isinstance(message, dict) or wrong_fields(message, kinds):
            raise StrangerError(f"a message lacks one of {', '.join(kinds)}, or has it of another type")
        return message

    def _set_timeout(self) -> None:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self.connection.settimeout(remaining)


def new_nonce() -> str:
    """Return a number that is used once."""
    return secrets.token_hex(16)


def proof(options: Mapping, role: str, index: int, nonce: str) -> str:
    """Prove to know the options of a run without telling them: their HMAC of what the peer has drawn.

    Args:
        options: those that all workers share, as JSON knows them.
        role: "host" or "visitor", so that neither can send back what it was sent.
        index: of the worker that proves.
        nonce: of the peer.
    """
    key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).digest()
    return hmac.new(key, f"{role} {index} {nonce}".encode(), hashlib.sha256).hexdigest()


def proves(received: str, expected: str) -> bool:
    """Return whether a proof is the expected one."""
    return hmac.compare_digest(received.encode(errors="replace"), expected.encode())


def digests(options: Mapping, nonces: str) -> dict[str, str]:
    """Return a digest of each option, by which peers name those that differ without telling values.

    Whoever receives them can try values: they hide what cannot be guessed, and so paths, but not a number of bits.
    """
    return {
        name: hmac.new(nonces.encode(), json.dumps([name, value]).encode(), hashlib.sha256).hexdigest()
        for name, value in options.items()
    }


def differing(theirs: Mapping, ours: Mapping) -> list[str]:
    """Return the names of the options whose digests differ.

    Raises:
        StrangerError: none does, so that the peer proved nothing for another reason.
    """
    names = [printable(name)[:80] for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    if not names:
        raise StrangerError("it does not prove that it knows the options, which it says are the same")
    return names
