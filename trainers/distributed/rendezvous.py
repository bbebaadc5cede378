"""Before a run over several machines begins: is everybody there, and does everybody mean the same run?"""

import contextlib
import errno
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from trainers.distributed.cluster import Cluster
from trainers.recipes.identity import changed_options

# Paths may differ from machine to machine.
OWN_OPTIONS = ("data_dir", "cache_dir", "lists", "weights")
ANSWER_SECONDS, PAUSE_SECONDS = 5.0, 0.2
LONGEST_LINE = 1 << 20
# The name by which others know a machine need not be one that it knows itself; loopback is the same for all.
EVERYWHERE = ((socket.AF_INET6, ""), (socket.AF_INET, ""))
LOOPBACK = {
    **dict.fromkeys(("localhost", "127.0.0.1"), ((socket.AF_INET, "127.0.0.1"),)),
    "[::1]": ((socket.AF_INET6, "::1"),),
}


def rendezvous(
    cluster: Cluster | None, options: Mapping, enter: Callable[[], Path | None], patience: float
) -> Path | None:
    """Have the chief enter the run folder, and the others learn which it is or why it could not.

    Each worker listens at its own address and visits every other one until it has visited all and all have visited it.
    So a wrong address is found here, within `patience`, where TensorFlow would wait for an hour. Then the ports are
    free again, for TensorFlow.

    Args:
        cluster: the workers; None for a process that trains alone, which enters and meets nobody.
        options: of this process, as JSON knows them; those of all must be the same.
        enter: returns the run folder, or None for a run that is finished; called by the chief alone.
        patience: seconds to wait for the others.

    Returns:
        What `enter` returned at the chief.

    Raises:
        ValueError: options differ, or it is what `enter` raised at the chief.
        OSError: a worker is not there; the message names its address. Or the own port is taken.
    """
    if cluster is None:
        return enter()
    mine = {"index": cluster.index, "count": len(cluster.addresses), "options": dict(options)}
    failure = None
    if cluster.index == 0:
        try:
            run_dir = enter()
            mine["run_dir"] = None if run_dir is None else str(run_dir)
        except (ValueError, OSError) as error:
            failure, mine["refusal"] = error, str(error)
    if failure is not None:
        with contextlib.suppress(TimeoutError):
            _introductions(cluster, mine, patience)
        raise failure
    said = _introductions(cluster, mine, patience)
    chief = said.get(0, mine)
    if "refusal" in chief:
        raise ValueError(f"{cluster.name(0)} refuses the run: {chief['refusal']}")
    for index, other in said.items():
        before, now = ({**words["options"], **dict.fromkeys(OWN_OPTIONS)} for words in (other, mine))
        if changed := list(changed_options(before, now)):
            raise ValueError(
                f"All workers must have the same options. Here differ from {cluster.name(index)}:\n  "
                + "\n  ".join(changed)
            )
    return None if chief["run_dir"] is None else Path(chief["run_dir"])


def _introductions(cluster: Cluster, mine: Mapping, patience: float) -> dict[int, dict]:
    """Visit the other workers and be visited by them; return what they say of themselves."""
    words = json.dumps(mine).encode() + b"\n"
    visitors: set[int] = set()
    said: dict[int, dict] = {}
    faults: dict[int, object] = {}
    deadline = time.monotonic() + patience

    class Host(socketserver.StreamRequestHandler):
        timeout = ANSWER_SECONDS

        def handle(self) -> None:
            """Tell a visitor who is here; it counts once it has taken that in."""
            visitor = _read(self.rfile.readline(LONGEST_LINE))
            self.wfile.write(words)
            if self.rfile.readline(LONGEST_LINE) == b"thanks\n":
                visitors.add(visitor["index"])

    with _listen(cluster, Host) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": PAUSE_SECONDS}, daemon=True).start()
        while missing := [i for i in cluster.others if i not in said or i not in visitors]:
            for index in [i for i in missing if i not in said]:
                try:
                    said[index] = _visit(cluster, index, words)
                except ValueError as error:  # tells more than that nobody answers, before or after
                    faults[index] = error
                except OSError as error:
                    faults.setdefault(index, error)
            if time.monotonic() > deadline:
                break
            time.sleep(PAUSE_SECONDS)
        server.shutdown()
    if missing:
        raise TimeoutError(_missing(cluster, missing, said, faults, patience))
    return said


def _visit(cluster: Cluster, index: int, words: bytes) -> dict:
    host, _, port = cluster.addresses[index].rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS) as connection:
        stream = connection.makefile("rwb")
        stream.write(words)
        stream.flush()
        other = _read(stream.readline(LONGEST_LINE))
        if (other["index"], other["count"]) != (index, len(cluster.addresses)):
            raise ValueError(f"worker {other['index']} of {other['count']} answers there")
        stream.write(b"thanks\n")
        stream.flush()
    return other


def _read(line: bytes) -> dict:
    try:
        words = json.loads(line)
        words["index"], words["count"], words["options"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("what answers there is no worker of a run that begins") from error
    return words


class _Server(socketserver.ThreadingTCPServer):
    """Listens at a host, or where that is "" at every address of the machine, of IPv6 those of IPv4 too."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self, family: socket.AddressFamily, host: str, port: int, handler: type[socketserver.BaseRequestHandler]
    ) -> None:
        self.address_family = family
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a visitor who is no worker: a port scan, a health check."""


def _listen(cluster: Cluster, handler: type[socketserver.BaseRequestHandler]) -> _Server:
    host, _, port = cluster.addresses[cluster.index].rpartition(":")
    for family, own in LOOPBACK.get(host, EVERYWHERE):
        try:
            return _Server(family, own, int(port), handler)
        except OSError as error:
            fault = error
            if error.errno == errno.EADDRINUSE:
                break
    raise OSError(
        f"Port {port} of {cluster.name(cluster.index)} cannot be had here: {fault.strerror}. Choose another, or end "
        "what uses it."
    ) from fault


def _missing(
    cluster: Cluster, missing: list[int], said: Mapping[int, dict], faults: Mapping[int, object], patience: float
) -> str:
    lines = [
        f"{cluster.name(i)} has not reached this one, {cluster.name(cluster.index)}"
        if i in said
        else f"{cluster.name(i)} cannot be reached: {faults[i]}"
        for i in missing
    ]
    return (
        f"{len(missing)} of {len(cluster.others)} other workers are not there after {patience:g} seconds:\n  "
        + "\n  ".join(lines)
        + "\nStart all workers within that time, or give more by --worker-timeout; and see that the addresses in "
        "TF_CONFIG are right and their ports open."
    )
