"""Who may ask, and how much: what is checked of each request before anything reads it."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harkback.app.words import Problem

OPEN = ("/login", "/static/")  #: what needs no token: the door, and files that are in the package
SMALL = 64 << 10  #: bytes of a request that carries no files
PAUSE = 20.0  #: seconds between two pieces of an upload
STALLED = 60.0  #: seconds in which a client takes nothing of what is sent to it
GRACE, SLOWEST = 30.0, 4096.0  #: seconds, and after them the least bytes a second, on average

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src blob:; connect-src 'self'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self)",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware.

    Without a token, only requests to a name of this machine are answered: a page elsewhere whose name was made to lead
    here (DNS rebinding) asks under its own. With a token, only those that bear it. Never is anything changed on behalf
    of another site's page.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: Collection[str], cookie: str, most: dict[str, int]
    ) -> None:
        """hosts: names of the server, if there is no token; most: bytes of a request, by its path."""
        self.app, self.token, self.hosts, self.cookie, self.most = app, token, frozenset(hosts), cookie, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        problem = self._refused(scope, Headers(scope=scope))
        if problem is not None:
            await _answer(problem, _with_headers(send))
            return
        most = self.most.get(scope["path"], SMALL)
        with suppress(_Gone):
            await self.app(scope, _Watched(receive, most), _with_headers(send))

    def _refused(self, scope: Scope, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if self.token is None and _name(host) not in self.hosts:
            return Problem(403, f"this server is called {' or '.join(sorted(self.hosts))}, not {host[:80]!r}")
        if scope["method"] not in ("GET", "HEAD") and _foreign(headers, host):
            return Problem(403, "a page of another site may not change anything here")
        if self.token is not None and not scope["path"].startswith(OPEN) and not self._bears(headers):
            return Problem(401, "a token is needed: open the address that harkback app has printed")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.most.get(scope["path"], SMALL):
            return Problem(413, "the request is too large; send less at once")
        return None

    def _bears(self, headers: Headers) -> bool:
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if not given:  # Other programs of this machine may have left cookies of any form: those are passed over.
            given = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return self.token is not None and secrets.compare_digest(given.encode(), self.token.encode())


class _Watched:
    """A request's body, which must neither grow nor drag on without end."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._began, self._bytes, self._whole = time.monotonic(), 0, False

    async def __call__(self) -> Message:
        if self._whole:  # What comes now is only the news that the client went away.
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), PAUSE)
        except TimeoutError:
            raise Problem(408, f"nothing came for {PAUSE:g} s; send it again") from None
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > self._most:
            raise Problem(413, "the request is too large; send less at once")
        seconds = time.monotonic() - self._began
        if not self._whole and seconds > GRACE and self._bytes < SLOWEST * seconds:
            raise Problem(408, f"fewer than {SLOWEST:g} bytes a second came; send it again over a better line")
        return message


def _name(host: str) -> str:
    """Without the port."""
    return (host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]).lower()


def _foreign(headers: Headers, host: str) -> bool:
    """Whether a browser says that the request is another site's."""
    origin = headers.get("origin")
    if origin is not None:
        try:
            return urlsplit(origin).netloc != host
        except ValueError:  # It is no address at all.
            return True
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        try:
            async with asyncio.timeout(STALLED):
                await send(message)
        except TimeoutError:
            raise _Gone from None

    return sending


class _Gone(Exception):
    """The client takes nothing any more, and others wait for their turn."""


async def _answer(problem: Problem, send: Send) -> None:
    body = json.dumps({"error": problem.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if problem.status_code == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": problem.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
