"""Servers that mean no good, or are broken: real sockets that send elsewhere, drip, flood, and talk to the terminal."""

import base64
import concurrent.futures
import contextlib
import json
import socket
import threading

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export import client as client_program
from export.client import ClientOptions
from export.serving import answers
from export.serving.prediction import BusyError, ServingError, connect, with_retries

RED = "\x1b[31m\x07\u202e"
GOOD = {"predictions": [{"code_bytes": {"b64": "nwM="}, "ok": True}]}


@contextlib.contextmanager
def socket_server(answer):
    """Serve connections by `answer(connection, stop)` in threads; yield host:port and what was received."""
    stop, received = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection):
            with connection, contextlib.suppress(OSError):
                received.append(connection.recv(1 << 16))
                answer(connection, stop)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", received
        stop.set()
        server.shutdown(socket.SHUT_RDWR)


def http_answer(status, body, *headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def says(content):
    return lambda connection, stop: connection.sendall(content)


def drip(first, piece):
    def answer(connection, stop):
        connection.sendall(first)
        while not stop.wait(0.05):
            connection.sendall(piece)

    return answer


DRIPS = {
    "body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
    "chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "headers": drip(b"HTTP/1.1 200 OK\r\n", b"A"),
    "status": drip(b"HTTP/1.1 200 ", b"O"),
    "informational": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "silence": drip(b"", b""),
}


@pytest.mark.parametrize("answer", DRIPS.values(), ids=DRIPS)
def test_the_time_of_a_request_is_bounded_however_slowly_a_server_answers(answer):
    with socket_server(answer) as (address, _):
        with pytest.raises(ServingError, match=r"no answer in 0\.3 s") as raised:
            with_retries(connect(f"http://{address}", "encoder", timeout=0.3), [b"x"], 3, pytest.fail)
        assert not isinstance(raised.value, BusyError)  # it is not sent again


def test_the_time_of_a_request_by_grpc_is_bounded_too():
    # A frame of HTTP/2's settings, then pings without end.
    answer = drip(b"\0\0\0\4\0\0\0\0\0", b"\0\0\x08\6\0\0\0\0\0" + bytes(8))
    with socket_server(answer) as (address, _), pytest.raises(ServingError, match=r"no answer in 0\.5 s"):
        connect(f"grpc://{address}", "encoder", timeout=0.5).encode([b"x"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_images_are_not_sent_where_a_server_redirects_to(status):
    with socket_server(says(http_answer(200, json.dumps(GOOD).encode()))) as (elsewhere, received):
        moved = http_answer(status, b"", f"Location: http://{elsewhere}/v1/models/encoder:predict")
        with (
            socket_server(says(moved)) as (address, _),
            pytest.raises(ServingError, match=f"HTTP {status}: a redirect"),
        ):
            connect(f"http://{address}", "encoder").encode([b"x"])
        assert received == []
        reply = connect(f"http://{elsewhere}", "encoder").encode([b"x"])  # it would have answered
        assert reply == [answers.Reply(b"\x9f\x03", True)] and len(received) == 1


BOMB = b"[" * 100_000
WRONG = {
    "nested": (BOMB, "nested in more than 100 levels"),
    "no list": (b'{"predictions": 5}', "not iterable"),
    "no rows": (b'{"predictions": [5]}', "not subscriptable"),
    "a number for a code": (b'{"predictions": [{"code_bytes": {"b64": 5}, "ok": true}]}', "not the answer"),
    "more rows": (json.dumps({"predictions": GOOD["predictions"] * 2}).encode(), "1 files were sent and 2 answered"),
    "no UTF-8": (b"\xff\xfe", "not a UTF-8 text file"),
}


@pytest.mark.parametrize(("body", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_told(body, message):
    with socket_server(says(http_answer(200, body))) as (address, _):
        with pytest.raises(ServingError, match=message):
            connect(f"http://{address}", "encoder").encode([b"x"])


def test_codes_of_two_lengths_are_no_answer():
    rows = [{"code_bytes": {"b64": base64.b64encode(bytes(size)).decode()}, "ok": True} for size in (2, 3)]
    with socket_server(says(http_answer(200, json.dumps({"predictions": rows}).encode()))) as (address, _):
        with pytest.raises(ServingError, match=r"codes of \[2, 3\] bytes"):
            connect(f"http://{address}", "encoder").encode([b"x", b"y"])


def test_an_answer_without_end_is_refused():
    def flood(connection, stop):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not stop.is_set():
            connection.sendall(b" " * (1 << 20))

    with (
        socket_server(flood) as (address, _),
        pytest.raises(ServingError, match=f"more than {answers.MAX_ANSWER} bytes"),
    ):
        connect(f"http://{address}", "encoder").encode([b"x"])


@pytest.mark.parametrize("body", [json.dumps({"error": RED}).encode(), RED.encode()])
def test_what_a_server_or_a_file_name_says_is_escaped(body, tmp_path, capsys):
    (file := tmp_path / f"a{RED}[red].png").write_bytes(b"x")
    with socket_server(says(http_answer(400, body))) as (address, _):
        assert client_program.main(ClientOptions(files=(file,), uri=f"http://{address}")) == 2
    told = capsys.readouterr().err
    assert "\\x1b[31m\\x07\\u202e" in told and not set(RED[0] + RED[-2:]) & set(told)
    absent = tmp_path / f"absent{RED}[red].png"
    with socket_server(says(http_answer(200, json.dumps(GOOD).encode()))) as (address, _):
        assert client_program.main(ClientOptions(files=(file, absent), uri=f"http://{address}")) == 1
    told = "".join(capsys.readouterr().out.split())
    for part in ("\\x1b[31m\\x07\\u202e", "[red].png", "9f03", "Nosuchfile"):
        assert part in told.replace("│", "")
    assert not set(RED[0] + RED[-2:]) & set(told)


class Answers(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers every request alike."""

    def __init__(self, response):
        self.response = response

    def Predict(self, request, context):
        if isinstance(self.response, str):
            context.abort(grpc.StatusCode.INTERNAL, self.response)
        return self.response


@contextlib.contextmanager
def grpc_answering(response):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Answers(response), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


def response(**outputs):
    made = predict_pb2.PredictResponse()
    for name, value in outputs.items():
        made.outputs[name].CopyFrom(value if not isinstance(value, list) else tf.make_tensor_proto(value))
    return made


def of_shape(kind, *shape):
    """One value that stands for an array of any shape."""
    proto = tf.make_tensor_proto([True] if kind == tf.bool else [b"x"])
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return proto


CODES, OK = [b"\x9f\x03"], [True]
WRONG_BY_GRPC = {
    "escapes": (RED, r"INTERNAL: \\x1b\[31m"),
    "no outputs": (response(), "code_bytes is not string"),
    "another type": (response(code_bytes=CODES, ok=[1]), "ok is not bool"),
    "a row more": (response(code_bytes=CODES * 2, ok=OK), r"\[2\] of code_bytes answered"),
    "a shape of terabytes": (response(code_bytes=CODES, ok=of_shape(tf.bool, 2**45)), r"\[35184372088832\] of ok"),
    "two axes": (response(code_bytes=CODES, ok=of_shape(tf.bool, 1, 1)), r"\[1, 1\] of ok answered"),
    "too large": (response(code_bytes=[b"x" * (answers.MAX_ANSWER + 1)], ok=OK), "larger than max"),
}


@pytest.mark.parametrize(("answer", "message"), WRONG_BY_GRPC.values(), ids=WRONG_BY_GRPC)
def test_a_wrong_answer_by_grpc_is_told_and_not_asked_for_again(answer, message):
    with grpc_answering(answer) as uri, pytest.raises(ServingError, match=message):
        with_retries(connect(uri, "encoder"), [b"x"], 3, pytest.fail)


def test_a_right_answer_by_grpc_is_taken():
    with grpc_answering(response(code_bytes=CODES, ok=OK)) as uri:
        assert connect(uri, "encoder").encode([b"x"]) == [answers.Reply(b"\x9f\x03", True)]
