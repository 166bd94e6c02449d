"""Run a script where the kernel of Linux ends every process that asks for a socket of the internet's.

``python tests/no_network.py SCRIPT ARGS``. The rule is handed down to all processes that are started, and holds for
what C libraries do too, which no hook of Python's sees. Sockets between processes of one machine (AF_UNIX) are let be.
"""

from __future__ import annotations

import ctypes
import platform
import runpy
import struct
import sys

#: The number of socket(2), by machine; other machines are not known here.
SOCKET = {"x86_64": 41, "aarch64": 198}
AF_INET, AF_INET6 = 2, 10  # of Linux
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # of the kernel's filters: a word, a comparison, a verdict
ALLOW, KILL = 0x7FFF0000, 0x80000000
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2  # of prctl(2)


def forbid() -> None:
    """From here on, for this process and all that come of it. Raises `OSError`."""
    rules = [
        (LOAD, 0, 0, 0),  # which call?
        (EQUAL, 0, 4, SOCKET[platform.machine()]),
        (LOAD, 0, 0, 16),  # its first argument: of which family?
        (EQUAL, 1, 0, AF_INET),
        (EQUAL, 0, 1, AF_INET6),
        (RETURN, 0, 0, KILL),
        (RETURN, 0, 0, ALLOW),
    ]
    words = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HP", len(rules), ctypes.addressof(words)))
    c = ctypes.CDLL(None, use_errno=True)
    if c.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or c.prctl(SECCOMP, FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


if __name__ == "__main__":
    forbid()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
