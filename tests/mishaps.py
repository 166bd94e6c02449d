"""What goes wrong with a machine, for one command: a full disk, one that is read only, too few handles."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from tqdm import tqdm

from harkback import decoding, workers
from harkback.cli import main

NOBODY = 65534
PATIENCE = 60.0  #: seconds after which a command says where it hangs, and has failed


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of a command that failed; it must be one, and no defect."""
        assert self.status == 2, self
        assert "Traceback" not in self.err and "defect" not in self.err, self
        line = self.err.rstrip("\n").splitlines()[-1].split("\r")[-1]
        assert line.startswith("harkback: "), self
        return line


def apart(*argv: str | Path, under: Callable[[], object] = lambda: None) -> Said:
    """A command in a process of its own, forked from this one. under: is done there first."""
    with TemporaryFile() as out, TemporaryFile() as err:
        child = os.fork()
        if not child:
            status = 1
            try:
                for mine, handle in ((out, 1), (err, 2)):
                    os.dup2(mine.fileno(), handle)
                sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
                faulthandler.dump_traceback_later(PATIENCE, exit=True, file=sys.stderr)
                tqdm.set_lock(threading.RLock())  # Its own is shared with whoever was forked before.
                alone()
                under()
                main([str(word) for word in argv])
                status = 0
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return Said(status, out.read().decode(), err.read().decode())


def alone() -> None:
    """Clips are decoded in this process: what it lacks, whoever decodes lacks. Another takes long to begin, too."""

    class Here:
        def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
            found: Future[Any] = Future()
            try:
                found.set_result(work(*args))
            except BaseException as error:
                found.set_exception(error)
            return found

    @contextmanager
    def team(*_: Any, **__: Any) -> Iterator[Here]:
        yield Here()

    decoding.team = team  # type: ignore[assignment]
    workers.context = lambda _: None
    multiprocessing.parent_process = lambda: multiprocessing.current_process()  # type: ignore[assignment, return-value]


def few_handles(more: int) -> Callable[[], None]:
    """No more files may be open than are now, and so many more."""

    def under() -> None:
        highest = max(int(each) for each in os.listdir("/proc/self/fd"))  # noqa: PTH208
        while (handle := os.open(os.devnull, os.O_RDONLY)) <= highest:  # Those between would be used first.
            pass
        resource.setrlimit(resource.RLIMIT_NOFILE, (handle + 1 + more, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    return under


def small_files(most: int) -> Callable[[], None]:
    """Bytes of a file; Python leaves the signal unheeded, so that it is an error."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def as_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@contextmanager
def a_disk(at: Path, size: str = "64m") -> Iterator[Path]:
    """A small disk of its own."""
    at.mkdir(exist_ok=True)
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(at)]
    if os.geteuid() or subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("NO DISK IS FILLED, and none made read only: it takes root, and the right to mount")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes."""
    about = os.statvfs(disk)
    filler = disk / ".filler"
    filler.write_bytes(bytes(max(0, about.f_bavail * about.f_frsize - free)))
    return filler
