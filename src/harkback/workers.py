"""Processes that work beside this one, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait
from typing import Any, ParamSpec, TypeVar

from harkback.interrupt import undisturbed

P = ParamSpec("P")
Found = TypeVar("Found")

#: What a process that decodes a file needs, and no more.
READERS = ("harkback.apart", "harkback.decoding", "harkback.encoders.signal", "harkback.pictures", "harkback.stills")
LOOK = 1.0  #: seconds between two looks at whether a process has ended
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


class _Pool(ProcessPoolExecutor):
    """It outlives that a process ends in the middle of an answer.

    Half an answer lies in the pipe of all then, whose other end is open here as well: whoever reads waits for ever.
    Python has no public name for that pipe, nor for the processes.
    """

    def __init__(self, count: int, **how: Any) -> None:
        super().__init__(count, **how)
        self._over = threading.Event()
        self._answers: Any = self._result_queue
        self._team = self._processes
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, work: Callable[P, Found], /, *args: P.args, **kwargs: P.kwargs) -> Future[Found]:
        with undisturbed():  # It may begin a process.
            return super().submit(work, *args, **kwargs)

    def finish(self) -> None:
        self._unwatch()
        self.shutdown(wait=True)

    def break_off(self) -> None:
        self._unwatch()
        self.shutdown(wait=False, cancel_futures=True)
        self._kill()

    def _kill(self) -> None:
        for process in list(self._team.values()):
            process.kill()  # What they have finished is on the disk.
        self._answers._writer.close()

    def _unwatch(self) -> None:
        self._over.set()
        self._watcher.join()  # Two must not close the pipe at once.

    def _watch(self) -> None:
        """None of them ends before it is told to."""
        while not self._over.wait(LOOK):
            if wait([process.sentinel for process in list(self._team.values())], 0) and not self._over.wait(LOOK):
                self._kill()
                return


@contextmanager
def team(
    count: int, preload: Sequence[str], *, threads: int = 1, then: Callable[..., None] | None = None, given: Any = None
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes for the length of a ``with`` block. Left by an exception, what they do is broken off.

    preload: modules that are loaded once for all of them; threads: of torch, in each; then: called in each with
    ``given``, before any work.
    """
    pool = _Pool(count, mp_context=context(preload), initializer=_begin, initargs=(threads, then, given))
    try:
        yield pool
        pool.finish()
    except BaseException:
        pool.break_off()
        raise


def begin(threads: int) -> None:
    """The first thing that a process does."""
    import torch  # Here: a command may have the fork server load it before it does so itself.

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer.
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:  # A worker whose parent was killed would wait for work for ever.
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _begin(threads: int, then: Callable[..., None] | None, given: Any) -> None:
    begin(threads)
    if then is not None:
        then(given)


def _die_with(parent: int) -> None:
    wait([parent])
    os._exit(1)
