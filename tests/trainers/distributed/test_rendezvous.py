"""Workers that find each other, or say who is missing: real sockets, a thread for each worker."""

import concurrent.futures
import contextlib
import json
import re
import socket
import socketserver
import threading
from pathlib import Path

import pytest

from tests.trainers.addresses import free_addresses
from trainers.distributed.cluster import Cluster
from trainers.distributed.messages import Connection, differing, digests, proof, proves
from trainers.distributed.rendezvous import STRANGERS, _listen, rendezvous

RUN_DIR = Path("runs/one")


def gather(clusters, *, options=({},), enter=lambda: RUN_DIR, patience=20.0):
    """Return for each worker what it met with: what `meet` returned, or its error."""

    def one(cluster):
        try:
            return rendezvous(cluster, options[cluster.index % len(options)], enter, patience)
        except (ValueError, OSError) as error:
            return error

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, clusters))


def workers(addresses):
    return [Cluster(addresses, index) for index in range(len(addresses))]


def test_who_trains_alone_meets_nobody():
    assert rendezvous(None, {}, lambda: RUN_DIR, 0) == RUN_DIR


def test_all_learn_the_run_folder_of_the_chief_and_the_ports_are_free_again():
    addresses = free_addresses(3)
    # Where paths differ, the run is the same.
    options = ({"bits": 16, "data_dir": "/a", "run_dir": "x"}, {"bits": 16, "data_dir": "/b", "run_dir": None})
    assert gather(workers(addresses), options=options) == [RUN_DIR] * 3
    for address in addresses:
        socket.create_server(("localhost", int(address.rpartition(":")[2]))).close()
    assert gather(workers(addresses), enter=lambda: None) == [None] * 3  # a run that is finished


@pytest.mark.parametrize(
    ("host", "bound"), [("localhost", {"127.0.0.1"}), ("127.0.0.1", {"127.0.0.1"}), ("gpu1", {"::", "0.0.0.0"})]
)
def test_a_worker_named_by_loopback_is_reached_from_this_machine_alone(host, bound):
    port = free_addresses(1)[0].rpartition(":")[2]
    with _listen(Cluster((f"{host}:{port}", "gpu2:1"), 0), socketserver.StreamRequestHandler) as server:
        assert server.server_address[0] in bound


def test_what_the_chief_refuses_all_refuse():
    def enter():
        raise FileExistsError("runs/one exists")

    chief, other = gather(workers(free_addresses(2)), enter=enter)
    assert isinstance(chief, FileExistsError)
    assert isinstance(other, ValueError) and "(the chief)" in str(other) and "runs/one exists" in str(other)


def test_other_options_are_refused_by_all():
    for error in gather(workers(free_addresses(2)), options=({"bits": 16}, {"bits": 32})):
        assert isinstance(error, ValueError) and "--bits" in str(error) and "localhost:" in str(error)


@pytest.mark.slow
def test_a_wrong_address_is_named_and_so_is_who_was_not_reached():
    right, wrong = free_addresses(2), free_addresses(1)[0]
    first = Cluster((right[0], wrong), 0)
    misled, unvisited = gather([first, Cluster(right, 1)], patience=1.5)
    assert isinstance(misled, TimeoutError) and f"worker 1 at {wrong} cannot be reached: " in str(misled)
    assert "after 1.5 seconds" in str(misled) and "--worker-timeout" in str(misled)
    assert f"worker 0 (the chief) at {right[0]} has not reached this one, worker 1 at {right[1]}" in str(unvisited)


def test_a_name_that_nobody_knows_and_a_stranger_at_an_address_are_told():
    (mine,) = free_addresses(1)

    class Stranger(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n")

    with socketserver.ThreadingTCPServer(("localhost", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = f"localhost:{server.server_address[1]}"
        (error,) = gather([Cluster((mine, "no-such-host.invalid:1", there), 0)], patience=0.1)
        server.shutdown()
    assert "worker 1 at no-such-host.invalid:1 cannot be reached" in str(error)
    assert f"worker 2 at {there} cannot be reached: what answers there is no worker" in str(error)


def test_two_who_both_take_themselves_for_the_chief_are_told():
    a, b = free_addresses(2)
    errors = gather([Cluster((a, b), 0), Cluster((b, a), 0)], patience=1.5)
    assert any("worker 0 of 2 answers there" in str(error) for error in errors)


def test_a_port_that_is_taken_is_named():
    mine, other = free_addresses(2)
    port = int(mine.rpartition(":")[2])
    with socket.create_server(("", port)):
        (error,) = gather([Cluster((mine, other), 0)], patience=1.0)
    assert isinstance(error, OSError) and f"Port {port} of worker 0 (the chief)" in str(error)


SECRET = {"bits": 48, "learning_rate": 0.0123, "data_dir": "/data/secret", "weights": "/models/secret.pth"}


@contextlib.contextmanager
def waiting_chief(patience=20.0):
    """A chief that waits for worker 1, and its address; the other's address is the caller's."""
    chief, other = free_addresses(2)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        result = pool.submit(gather, [Cluster((chief, other), 0)], options=(SECRET,), patience=patience)
        yield chief, other, result


def connected(address):
    host, _, port = address.rpartition(":")
    while True:  # until it listens
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, int(port)), timeout=10)


def everything(stream, *lines):
    """Send lines, each after an answer, and return all that is answered until the other side closes."""
    told = b""
    for line in lines:
        stream.sendall(line)
        with contextlib.suppress(TimeoutError, ConnectionError):
            told += stream.recv(1 << 20)
    with contextlib.suppress(OSError):  # not connected, where the other side has closed already
        stream.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := stream.recv(1 << 20):
            told += piece
    return told


HELLO = json.dumps({"index": 1, "count": 2, "nonce": "n", "options": SECRET}).encode() + b"\n"
PROOF = json.dumps({"proof": "0" * 64}).encode() + b"\n"
HOSTILE = {
    "silence": (),
    "a proof that is none": (HELLO, PROOF, b'{"thanks": true}\n'),
    "options of another type": (b'{"index": 1, "count": 2, "options": 5}\n',),
    "an index of another type": (b'{"index": "1", "count": 2, "nonce": "n"}\n',),
    "a truth for an index": (b'{"index": true, "count": 2, "nonce": "n"}\n',),
    "a list": (b"[1, 2]\n",),
    "nested": (b'{"index":' * 5_000 + b"\n",),
    "no end": (b"x" * (1 << 17),),
    "no UTF-8": (b"\xff\n",),
    "no request": (b"GET / HTTP/1.1\r\n\r\n",),
}


@pytest.mark.parametrize("lines", HOSTILE.values(), ids=HOSTILE)
def test_a_stranger_is_told_neither_values_nor_paths_and_disturbs_nobody(lines):
    with waiting_chief() as (chief, other, result):
        with connected(chief) as stream:
            told = everything(stream, *lines)
        for value in (b"secret", b"0.0123", b"48", b"runs", b"/"):
            assert value not in re.sub(rb"[0-9a-f]{32,64}", b"", told)  # but in digests
        assert gather([Cluster((chief, other), 1)], options=(SECRET,)) == [RUN_DIR]
        assert result.result() == [RUN_DIR]


def test_a_crowd_of_strangers_is_bounded_and_those_beyond_are_turned_away():
    (address,) = free_addresses(1)
    inside, leave = threading.Semaphore(0), threading.Event()

    class Host(socketserver.BaseRequestHandler):
        def handle(self):
            inside.release()
            leave.wait()
            self.request.sendall(b"answered")

    most = STRANGERS + 1  # one other worker
    with _listen(Cluster((address, "gpu2:1"), 0), Host) as server, contextlib.ExitStack() as streams:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        crowd = [streams.enter_context(connected(address)) for _ in range(most)]
        for _ in crowd:
            assert inside.acquire(timeout=20)
        for _ in range(3):
            assert everything(streams.enter_context(connected(address))) == b""
        assert not inside.acquire(blocking=False)
        leave.set()
        assert [everything(stream) for stream in crowd] == [b"answered"] * most
        assert everything(streams.enter_context(connected(address))) == b"answered"
        server.shutdown()


def test_workers_find_each_other_once_a_crowd_has_left(monkeypatch):
    monkeypatch.setattr("trainers.distributed.rendezvous.STRANGERS", 0)
    with waiting_chief() as (chief, other, result):
        with connected(chief):  # has the only place
            with connected(chief) as stream:
                assert everything(stream) == b""
        assert gather([Cluster((chief, other), 1)], options=(SECRET,)) == [RUN_DIR]
        assert result.result() == [RUN_DIR]


def test_a_stranger_at_the_address_of_the_chief_gives_out_no_run_folder():
    mine, chief = free_addresses(2)

    class Impostor(socketserver.StreamRequestHandler):
        def handle(self):
            hello = json.loads(self.rfile.readline())
            self.wfile.write(json.dumps({**hello, "index": 0, "proof": "0" * 64}).encode() + b"\n")
            self.rfile.readline()
            self.wfile.write(b'{"run_dir": "/tmp/elsewhere", "refusal": "\\u001b[2J"}\n')

    with socketserver.ThreadingTCPServer(("localhost", int(chief.rpartition(":")[2])), Impostor) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        (error,) = gather([Cluster((chief, mine), 1)], options=(SECRET,), patience=0.1)
        server.shutdown()
    assert isinstance(error, TimeoutError) and "a message lacks one of options" in str(error)


@pytest.mark.parametrize("piece", [b"", b" "], ids=["silent", "dripping"])
def test_a_message_has_an_end_in_time_however_slowly_it_comes(piece):
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip():
        with contextlib.suppress(OSError):
            while not stop.wait(0.01):
                theirs.sendall(piece)

    with ours, theirs:
        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(TimeoutError):
            Connection(ours, 0.2).receive(index=int)
        stop.set()


def test_a_proof_is_of_one_role_worker_number_and_set_of_options():
    one = proof({"a": 1, "b": 2}, "host", 0, "n")
    assert one == proof({"b": 2, "a": 1}, "host", 0, "n")
    others = [({"a": 1}, "host", 0, "n"), ({"a": 1, "b": 2}, "visitor", 0, "n"), ({"a": 1, "b": 2}, "host", 1, "n")]
    assert one not in {proof(*other) for other in [*others, ({"a": 1, "b": 2}, "host", 0, "m")]}
    assert proves(one, one) and not proves("ü", one)
    assert differing(digests({"a": 1, "b": 2}, "n"), digests({"a": 1, "b": 3, "c": 0}, "n")) == ["b", "c"]
