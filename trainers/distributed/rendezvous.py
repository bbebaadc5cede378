"""Before a run over several machines begins: is everybody there, and does everybody mean the same run?"""

import contextlib
import errno
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainers.distributed.cluster import Cluster
from trainers.distributed.messages import Connection, StrangerError, differing, digests, new_nonce, proof, proves
from trainers.recipes.identity import RUN_OPTIONS

# Paths may differ from machine to machine.
OWN_OPTIONS = ("data_dir", "cache_dir", "lists", "weights")
ANSWER_SECONDS, PAUSE_SECONDS = 5.0, 0.2
# Visitors that are answered at a time, beside the other workers; each may send `LONGEST_LINE` for `ANSWER_SECONDS`.
STRANGERS = 64
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

    A stranger who connects learns which worker of how many listens, and digests of the options, from which it can find
    values that can be guessed. Paths, run folder and refusals are told to those alone who prove to know the options.

    Args:
        cluster: the workers; None for a process that trains alone, which enters at once.
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
    shared = {name: value for name, value in options.items() if name not in (*RUN_OPTIONS, *OWN_OPTIONS)}
    outcome, failure = {"run_dir": "", "refusal": ""}, None
    if cluster.index == 0:
        try:
            run_dir = enter()
            outcome["run_dir"] = "" if run_dir is None else str(run_dir)
        except (ValueError, OSError) as error:
            failure, outcome["refusal"] = error, str(error)
    if failure is not None:
        with contextlib.suppress(TimeoutError):
            _introductions(cluster, shared, outcome, patience)
        raise failure
    said = _introductions(cluster, shared, outcome, patience)
    for index, other in said.items():
        if "differing" in other:
            raise ValueError(
                f"All workers must have the same options. Here differ from {cluster.name(index)}:\n  "
                + "\n  ".join(f"--{name.replace('_', '-')}: {shared.get(name)} here" for name in other["differing"])
            )
    chief = said.get(0, outcome)
    if chief["refusal"]:
        raise ValueError(f"{cluster.name(0)} refuses the run: {chief['refusal']}")
    return Path(chief["run_dir"]) if chief["run_dir"] else None


def _introductions(cluster: Cluster, shared: Mapping, outcome: Mapping, patience: float) -> dict[int, dict]:
    """Visit the other workers and be visited by them; return what they say to one that means the same run or not."""
    visitors: set[int] = set()
    said: dict[int, dict] = {}
    faults: dict[int, object] = {}
    deadline = time.monotonic() + patience

    class Host(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            """Answer a visitor; it counts once it has taken the answer in."""
            visitor = _answer(Connection(self.request, ANSWER_SECONDS), cluster, shared, outcome)
            if visitor in cluster.others:
                visitors.add(visitor)

    with _listen(cluster, Host) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": PAUSE_SECONDS}, daemon=True).start()
        while missing := [i for i in cluster.others if i not in said or i not in visitors]:
            for index in [i for i in missing if i not in said]:
                try:
                    said[index] = _visit(cluster, index, shared)
                except ValueError as error:  # says more than a missing answer, before or after it
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


def _answer(connection: Connection, cluster: Cluster, shared: Mapping, outcome: Mapping) -> int:
    """Answer a visitor, and return its index.

    Who has not proved to know the options is told neither the run folder nor why it is refused, nor any option.
    """
    visitor = connection.receive(index=int, count=int, nonce=str)
    index, nonce = cluster.index, new_nonce()
    connection.send(
        index=index,
        count=len(cluster.addresses),
        nonce=nonce,
        proof=proof(shared, "host", index, visitor["nonce"]),
    )
    expected = proof(shared, "visitor", visitor["index"], nonce)
    if proves(connection.receive(proof=str)["proof"], expected):
        connection.send(**outcome)
    else:
        connection.send(options=digests(shared, visitor["nonce"] + nonce))
    connection.receive(thanks=bool)
    return visitor["index"]


def _visit(cluster: Cluster, index: int, shared: Mapping) -> dict:
    """Visit a worker; return what it says, or which options are `differing`."""
    host, _, port = cluster.addresses[index].rpartition(":")
    nonce = new_nonce()
    with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS) as stream:
        connection = Connection(stream, ANSWER_SECONDS)
        connection.send(index=cluster.index, count=len(cluster.addresses), nonce=nonce)
        try:
            other = connection.receive(index=int, count=int, nonce=str, proof=str)
            if (other["index"], other["count"]) != (index, len(cluster.addresses)):
                raise ValueError(f"worker {other['index']} of {other['count']} answers there")
            connection.send(proof=proof(shared, "visitor", cluster.index, other["nonce"]))
            if proves(other["proof"], proof(shared, "host", index, nonce)):
                said = connection.receive(run_dir=str, refusal=str)
            else:
                theirs = connection.receive(options=dict)["options"]
                said = {"differing": differing(theirs, digests(shared, nonce + other["nonce"]))}
        except StrangerError as error:
            raise ValueError(f"what answers there is no worker of a run that begins: {error}") from error
        connection.send(thanks=True)
    return said


class _Server(socketserver.ThreadingTCPServer):
    """Listens at a host, or where that is "" at every address of the machine, of IPv6 those of IPv4 too.

    More than `most` visitors at a time are turned away; workers come again.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = STRANGERS

    def __init__(
        self,
        family: socket.AddressFamily,
        host: str,
        port: int,
        handler: type[socketserver.BaseRequestHandler],
        most: int,
    ) -> None:
        self.address_family = family
        self.places = threading.BoundedSemaphore(most)
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def verify_request(self, request: object, client_address: object) -> bool:
        """Take a place, if there is one."""
        return self.places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a visitor, and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a visitor who is no worker: a port scan, a health check."""


def _listen(cluster: Cluster, handler: type[socketserver.BaseRequestHandler]) -> _Server:
    host, _, port = cluster.addresses[cluster.index].rpartition(":")
    for family, own in LOOPBACK.get(host, EVERYWHERE):
        try:
            return _Server(family, own, int(port), handler, STRANGERS + len(cluster.others))
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
