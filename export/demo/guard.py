"""Restrictions of the page: other sites cannot use it, and neither browser nor server contacts other hosts."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import gradio as gr
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio's own page has scripts and styles in its text, and makes functions of templates.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'self'; object-src 'none'"
)
LOCAL_NAMES = ["127.0.0.1", "localhost", "[::1]"]
# Paths for which Gradio fetches what another server has; it looks the name of that server up before it refuses.
FETCHES = re.compile(r"/(?:proxy=|file[=/]\s*[a-z][a-z0-9+.-]*:)", re.IGNORECASE)
URL = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Policy:
    """Add `POLICY` to every answer.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"content-security-policy", POLICY.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_policy)


class SameOrigin:
    """Refuse requests from pages of other sites, and requests to fetch from other servers.

    A browser names the page that sends a request in `Origin`: with every upload and every other POST, and with each
    request across sites whose answer a page may read. A program that is no browser sends none.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with 403 where it is refused."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "").lower()
            foreign = any(urlsplit(origin).netloc.lower() != host for origin in headers.getlist("origin"))
            if foreign or FETCHES.search(scope["path"]):
                await PlainTextResponse("This page accepts no requests from other sites.", 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def middleware(local: bool) -> list[Middleware]:
    """Return the middleware of the page; a local page answers to local host names alone."""
    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_NAMES)] if local else []
    return [Middleware(Policy), *hosts, Middleware(SameOrigin)]


def refuse_urls(component: gr.UploadButton) -> None:
    """Have a component take uploaded files alone: Gradio would download a file that a request names by its URL."""
    move: Callable[[str | None], Awaitable[str | None]] = component.async_move_resource_to_block_cache

    async def move_upload(path: str | None) -> str | None:
        if path is not None and URL.match(path):
            raise gr.Error("A file must be uploaded, not named by its URL.")
        return await move(path)

    component.async_move_resource_to_block_cache = move_upload
