"""Sending image files to TensorFlow Serving, by REST or by gRPC."""

import base64
import binascii
import dataclasses
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

SIGNATURE = "encode_bytes"
FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0


class ServingError(Exception):
    """A request failed, and would fail again."""


class BusyError(ServingError):
    """A request failed because the server could not be reached or had too much to do: worth another try."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the server says of one image file.

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
            BusyError: another try may do.
            ServingError: none will.
        """


def connect(uri: str, name: str, version: int | None = None, timeout: float = 10.0) -> Client:
    """Make a client for a server.

    Args:
        uri: "http://host:port" or "https://..." for REST, "grpc://host:port" for gRPC.
        name: name of the model.
        version: of the model; the newest by default.
        timeout: seconds that a request may take.

    Raises:
        ValueError: the URI is of another kind.
        ImportError: requests, or grpcio and tensorflow-serving-api, are not installed.
    """
    scheme, separator, address = uri.partition("://")
    if not separator or not address or scheme not in ("http", "https", "grpc"):
        raise ValueError(f"--uri must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT. Received: {uri}.")
    if scheme == "grpc":
        return GrpcClient(address, name, version, timeout)
    return RestClient(uri, name, version, timeout)


def with_retries(
    client: Client, files: Sequence[bytes], retries: int, wait: Callable[[float], None] = time.sleep
) -> list[Reply]:
    """Send files, and send them again after `BusyError`, each time after about twice the wait.

    To encode changes nothing on the server, so sending twice does no harm. A request that ran out of time is not sent
    again: the server may still be at it, and would have the work twice.

    Args:
        client: sends them.
        files: the contents of image files, at most the server's max_batch_size.
        retries: how often to send again.
        wait: called with seconds.

    Raises:
        ServingError: the last try failed, or one in a way that another try would too.
    """
    for attempt in range(retries + 1):
        try:
            return client.encode(files)
        except BusyError:
            if attempt == retries:
                raise
            # At random, so that clients that were refused together do not come back together.
            wait(min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1.0))
    raise ValueError(f"`retries` must be at least 0. Received: {retries}.")


class RestClient:
    """Sends files as JSON, in the row format of TensorFlow Serving's REST interface.

    Args:
        url: "http://host:port".
        name: name of the model.
        version: of the model; the newest by default.
        timeout: seconds.
    """

    # What TensorFlow Serving makes of UNAVAILABLE and RESOURCE_EXHAUSTED, and proxies of a server that restarts.
    BUSY = (429, 502, 503)

    def __init__(self, url: str, name: str, version: int | None, timeout: float) -> None:
        try:
            import requests
        except ImportError as error:
            raise ImportError("REST needs requests. Install the extra: saat-tf[serving].") from error
        which = "" if version is None else f"/versions/{version}"
        self.url = f"{url.rstrip('/')}/v1/models/{name}{which}:predict"
        self.timeout = timeout
        self.requests = requests
        self.session = requests.Session()

    def encode(self, files: Sequence[bytes]) -> list[Reply]:
        """Send files in one request; see `Client`."""
        instances = [{"b64": base64.b64encode(file).decode("ascii")} for file in files]
        body = {"signature_name": SIGNATURE, "instances": instances}
        try:
            response = self.session.post(self.url, json=body, timeout=self.timeout)
        except self.requests.ConnectTimeout as error:
            raise BusyError(f"{self.url}: no connection in {self.timeout:g} s. Is the server running?") from error
        except self.requests.Timeout as error:
            raise ServingError(f"{self.url}: no answer in {self.timeout:g} s. Give a longer --timeout.") from error
        except self.requests.ConnectionError as error:
            raise BusyError(f"{self.url}: no connection. Is the server running?") from error
        except self.requests.RequestException as error:
            raise ServingError(f"{self.url}: {error}.") from error
        if not response.ok:
            kind = BusyError if response.status_code in self.BUSY else ServingError
            raise kind(f"{self.url}: HTTP {response.status_code}: {_rest_error(response.text)}")
        try:
            rows = response.json()["predictions"]
            replies = [
                Reply(base64.b64decode(row["code_bytes"]["b64"], validate=True), row["ok"] is True) for row in rows
            ]
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise ServingError(f"{self.url}: not the answer of an encoder ({error!r}).") from error
        return _complete(replies, files, self.url)


class GrpcClient:
    """Sends files to the PredictionService.

    Args:
        address: "host:port".
        name: name of the model.
        version: of the model; the newest by default.
        timeout: seconds.
    """

    def __init__(self, address: str, name: str, version: int | None, timeout: float) -> None:
        try:
            import grpc
            from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise ImportError("gRPC needs tensorflow-serving-api. Install the extra: saat-tf[serving].") from error
        self.grpc = grpc
        self.address = address
        self.timeout = timeout
        self.request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=name, signature_name=SIGNATURE))
        if version is not None:
            self.request.model_spec.version.value = version
        # grpc would take no more than 4 MB, which a batch of photographs exceeds; and it would retry by itself.
        options = (
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_retries", 0),
        )
        self.channel = grpc.insecure_channel(address, options)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def encode(self, files: Sequence[bytes]) -> list[Reply]:
        """Send files in one request; see `Client`."""
        import tensorflow as tf

        request = type(self.request)()
        request.CopyFrom(self.request)
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(list(files), tf.string, (len(files),)))
        where, codes = f"grpc://{self.address}", self.grpc.StatusCode
        try:
            outputs = self.stub.Predict(request, timeout=self.timeout).outputs
        except self.grpc.RpcError as error:
            if error.code() == codes.DEADLINE_EXCEEDED:
                raise ServingError(f"{where}: no answer in {self.timeout:g} s. Give a longer --timeout.") from error
            kind = BusyError if error.code() in (codes.UNAVAILABLE, codes.RESOURCE_EXHAUSTED) else ServingError
            raise kind(f"{where}: {error.code().name}: {error.details()}") from error
        if not {"code_bytes", "ok"} <= set(outputs):
            raise ServingError(
                f"{where}: not the answer of an encoder (outputs {', '.join(sorted(outputs)) or 'none'})."
            )
        read, found = tf.make_ndarray(outputs["ok"]), tf.make_ndarray(outputs["code_bytes"])
        return _complete([Reply(bytes(code), bool(ok)) for code, ok in zip(found, read, strict=True)], files, where)


def _complete(replies: list[Reply], files: Sequence[bytes], where: str) -> list[Reply]:
    if len(replies) != len(files):
        raise ServingError(f"{where}: {len(files)} files were sent and {len(replies)} answered.")
    return replies


def _rest_error(text: str) -> str:
    """Return the message of an error, which TensorFlow Serving writes as JSON and proxies as they like."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200] or "no message"
