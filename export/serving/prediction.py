"""Sending image files to TensorFlow Serving, by REST or by gRPC."""

import random
import time
from collections.abc import Callable, Sequence

from export.serving.answers import BusyError, Client, Reply, ServingError

__all__ = ["BusyError", "Client", "Reply", "ServingError", "connect", "with_retries"]

FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0


def connect(uri: str, name: str, version: int | None = None, timeout: float = 10.0) -> Client:
    """Make a client for a server.

    Args:
        uri: "http://host:port" or "https://..." for REST, "grpc://host:port" for gRPC.
        name: name of the model.
        version: of the model; the newest by default.
        timeout: seconds that a request may take, from its connection to the last byte of its answer.

    Raises:
        ValueError: the URI is of another kind.
        ImportError: httpx, or grpcio and tensorflow-serving-api, are not installed.
    """
    scheme, separator, address = uri.partition("://")
    if not separator or not address or scheme not in ("http", "https", "grpc"):
        raise ValueError(f"--uri must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT. Received: {uri}.")
    try:
        if scheme == "grpc":
            from export.serving.grpc_client import GrpcClient

            return GrpcClient(address, name, version, timeout)
        from export.serving.rest_client import RestClient

        return RestClient(uri, name, version, timeout)
    except ImportError as error:
        needs = "gRPC needs tensorflow-serving-api" if scheme == "grpc" else "REST needs httpx"
        raise ImportError(f"{needs}. Install the extra: saat-tf[serving].") from error


def with_retries(
    client: Client, files: Sequence[bytes], retries: int, wait: Callable[[float], None] = time.sleep
) -> list[Reply]:
    """Send files, with retries after `BusyError` and exponential backoff.

    Encoding changes nothing on the server, so retries are safe. A request that timed out is not repeated: the server
    may still be computing it.

    Args:
        client: sends them.
        files: the contents of image files, at most the server's max_batch_size.
        retries: how often to send again.
        wait: called with seconds.

    Raises:
        ServingError: the last try failed, or a retry would fail too.
    """
    for attempt in range(retries + 1):
        try:
            return client.encode(files)
        except BusyError:
            if attempt == retries:
                raise
            # Random, so that clients refused at the same time do not retry at the same time.
            wait(min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1.0))
    raise ValueError(f"`retries` must be at least 0. Received: {retries}.")
