"""Work in a process of its own, with limits on memory and time: what hostile bytes do to a decoder stays there."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safetensors.numpy import load, save
from tqdm import tqdm

from harkback.errors import HarkbackError, starved
from harkback.interrupt import undisturbed
from harkback.media import MediaError, NothingInside, NotMedia, TooLarge, Truncated, Unreachable, ZeroLength
from harkback.parcels import Parcel
from harkback.workers import begin, context

if sys.platform != "win32":
    import resource

#: Failures that keep their kind on the way; a subclass of others arrives as a `HarkbackError`.
KINDS = {
    kind.__name__: kind
    for kind in (HarkbackError, MediaError, NotMedia, Unreachable, TooLarge, NothingInside, Truncated, ZeroLength)
}
LARGEST = 1 << 30  #: bytes of a message
# The last of them loads half a second of statistics, which would come to every lesson.
PRELOAD = (
    "harkback.confined",
    "harkback.decoding",
    "harkback.encoders.signal",
    "harkback.pictures",
    "harkback.teaching",
)

Say = Callable[[Parcel], None]
Work = Callable[..., None]  #: is given a `Say` and its arguments, all of which must be able to travel to a process

#: multiprocessing reads a child's exit code off a pipe, once: two threads must not try at the same time.
_LOCK = threading.Lock()
_RUNNING: set[Confined] = set()  #: under the lock too


@dataclass(frozen=True, slots=True)
class Limits:
    """What a piece of work may take; None: as much as it wants."""

    memory: int | None = None  #: bytes, beside those of the libraries. Kept by the kernel of Linux, and by no other
    computing: int | None = None  #: seconds of a core. Kept by the kernel, but on Windows
    silence: float | None = None  #: seconds between two words
    length: float | None = None  #: seconds that a clip may last; kept by those who open it


DECODING = Limits(memory=3 << 30, computing=1800, silence=120.0)  #: for one file


class Broken(HarkbackError):
    """The work was ended by a limit, or its process crashed."""


class Crashed(Broken):
    """Its process was lost, and did not say why."""


class Confined:
    """``with Confined(work, *args) as running: for facts, arrays in running: ...``; its process ends with the block."""

    def __init__(self, work: Work, *args: Any, limits: Limits, threads: int = 1) -> None:
        """threads: of torch, in the process."""
        self.limits, self._stopped = limits, False
        self._ear, mouth = multiprocessing.Pipe(duplex=False)
        self._process = context(PRELOAD).Process(
            target=_main, args=(mouth, work, args, limits, threads), daemon=True, name="harkback-confined"
        )
        with undisturbed(), _LOCK:
            self._process.start()
            _RUNNING.add(self)
        mouth.close()  # Else its end would not be noticed.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()
        with _LOCK:
            self._process.join()
            _RUNNING.discard(self)
        self._ear.close()

    def stop(self) -> None:
        """End the process, from any thread; whoever waits for its words is told so."""
        self._stopped = True
        with suppress(ValueError, AttributeError):  # It has ended.
            self._process.kill()

    def __iter__(self) -> Iterator[Parcel]:
        """What it says, word by word. Raises the `HarkbackError` that the work raised, and `Broken`."""
        while True:
            try:
                if not self._ear.poll(self.limits.silence):
                    raise Broken(f"took more than {self.limits.silence:g} s", mend="take a shorter clip, or convert it")
                word = json.loads(self._ear.recv_bytes(LARGEST))
                arrays = load(self._ear.recv_bytes(LARGEST)) if word["arrays"] else {}
            except (EOFError, OSError):
                raise self._why() from None
            if word["done"]:
                return
            if word["error"] is not None:
                raise rebuilt(**word["error"])
            yield word["facts"], arrays

    def _why(self) -> Broken:
        """Of a process that ended without a last word."""
        with _LOCK:
            self._process.join(5)
            code = self._process.exitcode
        if self._stopped:
            return Broken("was stopped", mend="try again")
        if sys.platform != "win32" and code == -signal.SIGXCPU:
            return Broken(f"took more than {self.limits.computing} s of computing", mend="take a shorter clip")
        return Crashed("crashed the decoder", mend="convert the file to another format")


def stop_all() -> None:
    """End all such processes; whoever waits for one is told so."""
    with _LOCK:
        running = list(_RUNNING)
    for each in running:
        each.stop()


def warm() -> None:
    """Load the libraries that such processes start from; else the first of them waits for that."""
    with suppress(Broken), Confined(_nothing, limits=Limits()) as running:
        list(running)  # It may be stopped with the app that began it.


# ---- in the process -------------------------------------------------------------------------------------------------


def _main(mouth: Connection, work: Work, args: tuple[Any, ...], limits: Limits, threads: int) -> None:
    begin(threads)
    tqdm.set_lock(threading.RLock())  # Its own is shared with other processes, and would outlive one that is killed.
    limit(limits.memory)
    if limits.computing is not None:
        allow(limits.computing)

    def say(parcel: Parcel) -> None:
        facts, arrays = parcel
        _send(mouth, facts=facts, arrays=bool(arrays))
        if arrays:
            mouth.send_bytes(save(arrays))

    try:
        work(say, *args)
    except BrokenPipeError:  # Nobody listens any more.
        return
    except HarkbackError as error:
        _send(mouth, error=facts_of(error))
    except Exception as error:  # What is thrown at a decoder must not be what its parent dies of.
        if starved(error):
            _send(mouth, error=_too_large())
        else:
            what = f"failed with {type(error).__name__}: {error}"
            _send(mouth, error={"kind": "Broken", "what": what, "where": None, "mend": "please report it"})
    else:
        _send(mouth, done=True)


def _nothing(say: Say) -> None:
    del say


def _send(mouth: Connection, **word: Any) -> None:
    mouth.send_bytes(json.dumps({"facts": {}, "arrays": False, "done": False, "error": None, **word}).encode())


def _too_large() -> dict[str, Any]:
    return {"kind": "Broken", "what": "does not fit in memory", "where": None, "mend": "take a shorter clip"}


def facts_of(error: HarkbackError) -> dict[str, Any]:
    """What JSON can hold of an error, for `rebuilt`."""
    kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in KINDS)
    return {"kind": kind, "what": error.what, "where": error.where, "mend": error.mend}


def rebuilt(kind: str, what: str, where: str | None, mend: str | None) -> HarkbackError:
    """The error that `facts_of` was told of."""
    return {**KINDS, "Broken": Broken}[kind](what, where=where, mend=mend)


def limit(memory: int | None) -> None:
    """From now on, this process has no more than this, in bytes, beside what it has already; and it dumps no core."""
    if sys.platform == "win32":
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory is not None and sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + memory)


def allow(seconds: int) -> None:
    """From now on, this process may compute for so long; then the kernel ends it. To be said anew for each clip."""
    if sys.platform == "win32":
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + seconds)


def _lower(what: int, to: int) -> None:
    """A limit which can be said anew; whoever started this program may have set a lower one, and that stays."""
    _, most = resource.getrlimit(what)
    resource.setrlimit(what, (to if most == resource.RLIM_INFINITY else min(to, most), most))
