"""Sending image files to TensorFlow Serving by REST."""

import base64
import binascii
from collections.abc import Sequence

import anyio
import httpx
from anyio.from_thread import start_blocking_portal

from export.serving.answers import MAX_ANSWER, SIGNATURE, BusyError, Reply, ServingError, check_replies
from saat_tf.printable import printable
from saat_tf.strict_json import parse_json

SHOWN_ERROR = 500


class RestClient:
    """Sends files as JSON, in the row format of TensorFlow Serving's REST interface.

    Args:
        url: "http://host:port".
        name: name of the model.
        version: of the model; the newest by default.
        timeout: seconds that a request may take, from its connection to the last byte of its answer.
    """

    # What TensorFlow Serving makes of UNAVAILABLE and RESOURCE_EXHAUSTED, and proxies of a server that restarts.
    BUSY = (429, 502, 503)

    def __init__(self, url: str, name: str, version: int | None, timeout: float) -> None:
        which = "" if version is None else f"/versions/{version}"
        self.url = f"{url.rstrip('/')}/v1/models/{name}{which}:predict"
        self.timeout = timeout
        self.certificates = httpx.create_ssl_context()

    def encode(self, files: Sequence[bytes]) -> list[Reply]:
        """Send files in one request; see `Client`."""
        instances = [{"b64": base64.b64encode(file).decode("ascii")} for file in files]
        with start_blocking_portal() as portal:
            status, answer = portal.call(self._post, {"signature_name": SIGNATURE, "instances": instances})
        if status != httpx.codes.OK:
            kind = BusyError if status in self.BUSY else ServingError
            raise kind(f"{self.url}: HTTP {status}: {_error_of(status, answer)}")
        try:
            rows = parse_json(answer, "the answer")["predictions"]
            replies = [
                Reply(base64.b64decode(row["code_bytes"]["b64"], validate=True), row["ok"] is True) for row in rows
            ]
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise ServingError(f"{self.url}: not the answer of an encoder ({error!r:.{SHOWN_ERROR}}).") from error
        return check_replies(replies, files, self.url)

    async def _post(self, body: dict) -> tuple[int, bytes]:
        """Post JSON, and return the status and the whole answer before the deadline; redirects are answers too."""
        connected = False

        async def trace(event: str, _: dict) -> None:
            nonlocal connected
            connected = connected or event.startswith("http")  # "http11.send_request_headers.started" is the first

        try:
            with anyio.fail_after(self.timeout):
                async with (
                    httpx.AsyncClient(verify=self.certificates, timeout=None, follow_redirects=False) as client,
                    client.stream(
                        "POST",
                        self.url,
                        json=body,
                        headers={"Accept-Encoding": "identity"},
                        extensions={"trace": trace},
                    ) as response,
                ):
                    return response.status_code, await self._read(response)
        except TimeoutError as error:
            if connected:
                raise ServingError(f"{self.url}: no answer in {self.timeout:g} s. Give a longer --timeout.") from error
            raise BusyError(f"{self.url}: no connection in {self.timeout:g} s. Is the server running?") from error
        except httpx.NetworkError as error:
            raise BusyError(f"{self.url}: no connection. Is the server running?") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServingError(f"{self.url}: {printable(str(error))[:SHOWN_ERROR]}.") from error

    async def _read(self, response: httpx.Response) -> bytes:
        answer = bytearray()
        async for chunk in response.aiter_raw():  # what a server compresses all the same is no JSON, nor a bomb
            answer += chunk
            if len(answer) > MAX_ANSWER:
                raise ServingError(f"{self.url}: the answer has more than {MAX_ANSWER} bytes.")
        return bytes(answer)


def _error_of(status: int, answer: bytes) -> str:
    """Return the message of an error, which TensorFlow Serving writes as JSON and proxies as they like."""
    if httpx.codes.is_redirect(status):
        return "a redirect. The images were not sent there. Name the server itself by --uri."
    try:
        text = str(parse_json(answer, "the answer")["error"])
    except (ValueError, KeyError, TypeError):
        text = answer.decode(errors="replace").strip()
    return printable(text)[:SHOWN_ERROR] or "no message"
