"""Loaded into the server that processes are forked from: here many share it, and some are killed while they ask it.

Python's own takes half a request for its end. Outside these trials each command has a server to itself.
"""

from __future__ import annotations

import errno
import socket
from multiprocessing import reduction

_received = reduction.recvfds


def _whole(sock: socket.socket, size: int) -> list[int]:
    try:
        return _received(sock, size)
    except (EOFError, RuntimeError) as error:
        raise OSError(errno.ECONNABORTED, str(error)) from error  # The one error that its loop lives on after.


reduction.recvfds = _whole
