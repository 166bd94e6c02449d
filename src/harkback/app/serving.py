"""``harkback app``: a server on this machine, and a browser that opens it."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from dataclasses import replace
from types import FrameType

import uvicorn

from harkback.app.prompt import config
from harkback.app.room import Serving
from harkback.app.server import make
from harkback.errors import HarkbackError
from harkback.messages import say

LOOPBACK = "127.0.0.1"
#: Names of settings of glibc's memory, as its malloc.h has them.
ARENAS, MAPPED = -8, -3
TRIES = 20  #: ports that are tried, from the usual one on


def serve(serving: Serving, host: str | None, port: int | None, *, browser: bool) -> None:
    """Serve until it is stopped. host: None: this machine alone; else a token is demanded, even on the loopback."""
    _give_memory_back()
    with _bound(host or LOOPBACK, port) as listening:
        token = None if host is None else secrets.token_urlsafe(32)
        serving = replace(serving, token=token, port=listening.getsockname()[1])
        app = make(serving)
        shown = _shown(host or LOOPBACK)
        address = f"http://{shown}:{serving.port}/" + ("" if token is None else f"login?token={token}")
        server = _Announcing(config(app, log_level="warning"), address, browser)
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends.
            server.run(sockets=[listening])
        say("stopped")


class _Announcing(uvicorn.Server):
    """Says where it is as soon as it answers."""

    def __init__(self, config: uvicorn.Config, address: str, browser: bool) -> None:
        super().__init__(config)
        self._address, self._browser = address, browser

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """An impatient second Ctrl-C changes nothing: the end takes seconds, and leaves nothing behind."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say(f"open {self._address}")
        say("stop it with Ctrl-C; the model is on the disk after every change")
        if self._browser and _screen():
            threading.Thread(target=webbrowser.open, args=(self._address,), daemon=True).start()


def _bound(host: str, port: int | None) -> socket.socket:
    """A socket that listens there. port: None: the first that is free from 8420 on; 0: any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    failure: OSError | None = None
    for candidate in range(8420, 8420 + TRIES) if port is None else (port,):
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, candidate))
            bound.listen(128)
        except OSError as error:
            bound.close()
            failure = error
        else:
            return bound
    assert failure is not None
    if isinstance(failure, socket.gaierror):
        raise HarkbackError(f"{host} is no address of this machine", where="--host", mend="try 0.0.0.0 for all of them")
    what = f"cannot listen on {host} ({failure.strerror})"
    raise HarkbackError(what, where="--host" if port is None else "--port", mend="choose another")


def _give_memory_back() -> None:
    """Many threads hold a large array for a moment; each of them would keep the room that it once took (glibc)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(ARENAS, 2)
            library.mallopt(MAPPED, 1 << 20)  # bytes, from which on an array has its own map, which ends with it


def _shown(host: str) -> str:
    """The name by which the server is opened from this machine or, if it listens everywhere, from another."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _screen() -> bool:
    """Whether a browser would have one; without, a browser of the terminal would take it over."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
