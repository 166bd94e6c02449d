"""How processes beside this one are begun; they end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from multiprocessing.connection import wait
from typing import Any

#: What a process that decodes a file needs, and no more.
READERS = ("harkback.apart", "harkback.decoding", "harkback.encoders.signal", "harkback.pictures", "harkback.stills")
LONGEST = 70  #: bytes of the temporary folder's name: a socket's may have 107, and 32 come behind it


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def context(preload: Sequence[str]) -> Any:
    """How processes are started. preload: modules that are loaded once for all of them, where that can be done.

    There, what others are forked from is started at once, and loads its modules while this process goes on.
    """
    found = multiprocessing.get_context(_method())
    if found.get_start_method() == "forkserver":
        found.set_forkserver_preload(list(preload))
        _start_server()
    return found


def _start_server() -> None:
    """Ctrl-C goes to all of a terminal's processes, and one that still loads would show where: it is to heed none."""
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # It would unblock what is blocked here.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # This is inherited.
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _method() -> str:
    """Not plain fork: a forked copy of torch's threads can hang. A fork server loads the libraries once for all.

    It listens at a socket in the temporary folder, whose name may not be long; once it runs, that may change.
    """
    there = "forkserver" in multiprocessing.get_all_start_methods()
    return "forkserver" if there and len(tempfile.gettempdir().encode()) <= LONGEST else "spawn"


def begin(threads: int) -> None:
    """The first thing that a process does."""
    import torch  # Here: a command may have the fork server load it before it does so itself.

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer.
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:  # A worker whose parent was killed would wait for work for ever.
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(parent: int) -> None:
    wait([parent])
    os._exit(1)
