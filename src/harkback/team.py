"""Processes that each do one piece of work at a time, beside this one."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from harkback.workers import begin, context

Found = TypeVar("Found")
Job = tuple[Future[Any], tuple[Callable[..., Any], tuple[Any, ...]]]
Mate = tuple[Any, Connection]  #: a process, and our end of its pipe


class Lost(Exception):
    """The process that did this work ended before it could say what came of it."""


class Team:
    """A pipe for each process, and a thread that waits at its end: one that ends takes only its own work along.

    Python's pool has one pipe for the answers of all: half an answer of a process that was killed keeps it waiting for
    ever, and any process that ends fails the work of all.
    """

    def __init__(self, count: int, preload: Sequence[str], given: tuple[Any, ...]) -> None:
        """given: what `_work` is given beside its pipe."""
        context(preload)  # It begins to load them.
        self._preload, self._given = preload, given
        self._todo: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()  #: of the two below
        self._running: set[Any] = set()  #: processes
        self._over = False
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[..., Found], *args: Any) -> Future[Found]:
        """Its future raises what the work raised, and `Lost`. All of it must be able to travel to a process."""
        future: Future[Found] = Future()
        self._todo.put((future, (work, args)))
        return future

    def finish(self) -> None:
        """Wait until everything is done."""
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()

    def break_off(self) -> None:
        """End all processes, whatever they do: what they have finished is on the disk."""
        with self._lock:
            self._over = True
            for process in self._running:
                process.kill()
        for _ in self._threads:
            self._todo.put(None)

    def _serve(self) -> None:
        """All that one process does, or, if it ends, another in its place."""
        mate: Mate | None = None
        while (job := self._todo.get()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    if mate is not None and wait([mate[1]], 0):  # It says nothing unasked: it has ended.
                        self._end(mate)
                        mate = None
                    mate = mate or self._start()
                    if not _ask(mate[1], work, future):
                        self._end(mate)
                        mate = None
                        future.set_exception(Lost())
                except BaseException as error:
                    future.set_exception(error)
            del future, work, job  # An answer may be large.
        if mate is not None:
            self._end(mate)

    def _start(self) -> Mate:
        with self._lock:
            if self._over:
                raise Lost
            how = context(self._preload)
            pipe, theirs = how.Pipe()
            process = how.Process(target=_work, args=(theirs, *self._given), daemon=True)
            try:
                process.start()
            except BaseException:
                pipe.close()
                raise
            finally:
                theirs.close()  # Else its end would not be noticed.
            self._running.add(process)
        return process, pipe

    def _end(self, mate: Mate) -> None:
        process, pipe = mate
        pipe.close()  # That is what it waits for, if it still does.
        process.join()
        with self._lock:
            self._running.discard(process)


def _ask(pipe: Connection, work: Any, future: Future[Any]) -> bool:
    """Whether there is an answer."""
    try:
        pipe.send(work)
        done, found = pipe.recv()
    except (EOFError, OSError):
        return False
    if done:
        future.set_result(found)
    else:
        future.set_exception(found)
    return True


@contextmanager
def team(
    count: int, preload: Sequence[str], *, threads: int = 1, then: Callable[..., None] | None = None, given: Any = None
) -> Iterator[Team]:
    """Processes for the length of a ``with`` block. Left by an exception, what they do is broken off.

    preload: modules that are loaded once for all of them; threads: of torch, in each; then: called in each with
    ``given``, before any work.
    """
    members = Team(count, preload, (threads, then, given))
    try:
        yield members
        members.finish()
    except BaseException:
        members.break_off()
        raise


# ---- in the process -------------------------------------------------------------------------------------------------


def _work(pipe: Connection, threads: int, then: Callable[..., None] | None, given: Any) -> None:
    begin(threads)
    if then is not None:
        then(given)
    with suppress(EOFError, ConnectionError):  # Nobody has work for it any more.
        while True:
            work, args = pipe.recv()
            _answer(pipe, work, args)


def _answer(pipe: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        found = work(*args)
    except Exception as error:
        error.add_note(traceback.format_exc())
        found, done = error, False
    else:
        done = True
    try:
        pipe.send((done, found))
    except ConnectionError:
        raise
    except Exception as error:  # It cannot travel, or there is no memory for that.
        pipe.send((False, error))
