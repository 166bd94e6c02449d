"""How requests come in: as uvicorn reads them, but whoever begins one must go on with it, and is answered once.

uvicorn gives a client that never ends its headers all the time in the world, and a connection costs a descriptor.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS = 15.0  #: seconds from the beginning of a connection, or of a request on it, to the end of the headers


class Prompt(H11Protocol):
    """A connection. It is closed where headers take too long; bodies are `guard.Guard`'s to watch."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:  # The headers are not there yet.
            self._wait()
        else:
            self._stop()

    def send_400_response(self, msg: str) -> None:
        """To what is no HTTP; but a request whose body ends in that is answered once, by the app or by this."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # The app has begun to, or is done.
            self.transport.close()
            return
        if self.cycle is not None:
            self.cycle.disconnected = True  # What the app still says goes nowhere.
        super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(HEADERS, self.transport.close)

    def _stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


def config(app: ASGIApp, **more: Any) -> uvicorn.Config:
    """How the app is served."""
    return uvicorn.Config(app, http=Prompt, access_log=False, timeout_graceful_shutdown=3, lifespan="on", **more)
