"""A process that is killed while it works, at a moment that was drawn; and what it left, judged."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Protocol

from tqdm import tqdm

#: What lies in a folder, by name; of each thing something that is equal just where the thing is.
Found = dict[str, Any]
BEYOND = 1.05  #: moments are drawn from this many times the length of a run, so that its very end is met too
LONGEST = 60.0  #: seconds after which a run says where it hangs, and has failed
LOOKED = 3  #: runs by which the length is measured


class Command(Protocol):
    """What is killed."""

    name: str
    steps: bool  #: it may leave a part of the new state: what was finished is kept
    learnt: str  #: what the same command says when it has happened already; "": it says nothing, or goes one further

    def put(self, folder: Path) -> None:
        """Bring the folder, which is new, to the old state."""

    def run(self, folder: Path) -> None: ...

    def found(self, folder: Path) -> Found:
        """All that can be opened; raises whatever is raised by what cannot."""

    def rest(self, folder: Path) -> Found:
        """The same of a folder that nobody works at any more, and all that it holds besides."""

    def names(self, folder: Path) -> set[str]:
        """Of all files, but those that may stay."""


@dataclass(slots=True)
class Tally:
    command: str
    seed: int
    seconds: float = 0.0  #: that a run takes, by which moments were drawn
    kills: int = 0
    inside: int = 0
    old: int = 0
    between: int = 0
    new: int = 0
    equal: int = 0  #: went on to the result of a run that nobody killed
    wrong: list[str] = field(default_factory=list)
    took: float = 0.0  #: seconds for all of it


def apart(work: Callable[[], object]) -> int:
    """The id of a process that does it, and says nothing."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        faulthandler.dump_traceback_later(LONGEST, exit=True, file=os.fdopen(os.dup(2), "w"))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)
        tqdm.set_lock(threading.RLock())  # Its own is shared with other processes, and outlives one that is killed.
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def waited(child: int) -> int:
    """The exit code; negative: the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(work: Callable[[], object], after: float) -> bool:
    """Whether a kill so many seconds after its beginning met it; `RuntimeError` if it failed by itself before."""
    ear, mouth = os.pipe()

    def begun() -> None:
        os.write(mouth, b"x")
        work()

    child = apart(begun)
    os.read(ear, 1)
    os.close(ear)
    os.close(mouth)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    code = waited(child)
    while _orphans():  # They notice at once; nobody gives the command again sooner.
        time.sleep(0.005)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"it failed by itself, with {code}")
    return code != 0


def _orphans() -> bool:
    """Whether processes still work that were begun by one that is gone."""
    import psutil

    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if server is None:
        return False
    for each in psutil.Process(server).children():
        with suppress(psutil.NoSuchProcess):
            if each.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def ended(work: Callable[[], object], says: str) -> str:
    """Do it to its end in a process of its own: "" if it did, ``says`` if it refused so, else what went wrong."""
    from harkback.errors import HarkbackError

    def heard() -> None:
        try:
            work()
        except HarkbackError as error:
            os._exit(3 if says and says in str(error) else 4)

    return {0: "", 3: says}.get(waited(apart(heard)), "going on failed")


def length(command: Command, folder: Path) -> float:
    """Seconds that a run takes, in the middle of a few."""
    seen = []
    for _ in range(LOOKED):
        put(command, folder)
        began = time.perf_counter()
        assert waited(apart(lambda: command.run(folder))) == 0
        seen.append(time.perf_counter() - began)
    return median(seen)


def put(command: Command, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command.put(folder)


def state(found: Found, old: Found, new: Found, steps: bool) -> str:
    if found == old:
        return "old"
    if found == new:
        return "new"
    part = all(name in new and new[name] == what for name, what in found.items())
    return "between" if steps and part and all(name in found for name in old) else "neither"


@dataclass(frozen=True, slots=True)
class Known:
    """What a run that nobody killed begins with, and comes to."""

    old: Found
    new: Found
    rest: Found
    names: set[str]

    @classmethod
    def of(cls, command: Command, folder: Path) -> Known:
        put(command, folder)
        command.run(folder)  # Here, so that whoever is forked has all that is loaded late.
        put(command, folder)
        old = command.found(folder)
        assert waited(apart(lambda: command.run(folder))) == 0, f"{command.name} fails by itself"
        return cls(old, command.found(folder), command.rest(folder), command.names(folder))


def trial(command: Command, folder: Path, kills: int, seed: int, *, twice: bool = False) -> Tally:
    """Kill it until ``kills`` fell inside. twice: the run that goes on after a kill is killed as well."""
    began, draw = time.monotonic(), Random(seed)
    tally = Tally(command.name + (", going on" if twice else ""), seed)
    known = Known.of(command, folder)
    tally.seconds = length(command, folder)
    while tally.inside < kills:
        put(command, folder)
        tally.kills += 1
        moments = [draw.random() * tally.seconds * BEYOND for _ in range(1 + twice)]
        try:
            if not killed(lambda: command.run(folder), moments[0]):
                continue
            if twice and not command.steps and command.found(folder) == known.new:
                continue  # It has happened: there is nothing to go on with.
            if twice and not killed(lambda: command.run(folder), moments[1]):
                continue
        except RuntimeError as error:  # Going on after the first kill, it may find that all has happened.
            if not (twice and command.learnt):
                tally.wrong.append(f"kill {tally.kills}: {error}")
            continue
        tally.inside += 1
        if why := judged(command, folder, known, tally):
            after = " and ".join(f"{moment:.4f} s" for moment in moments)
            tally.wrong.append(f"kill {tally.kills}, after {after}: {why}")
    tally.took = time.monotonic() - began
    return tally


def judged(command: Command, folder: Path, known: Known, tally: Tally) -> str:
    """What is wrong with what a kill left, or with what came of it when the command was given again; "": nothing."""
    try:
        left = state(command.found(folder), known.old, known.new, command.steps)
    except Exception as error:
        return f"what it left cannot be opened: {type(error).__name__}: {error}"
    if left == "neither":
        return "it left neither the old state nor the new one"
    setattr(tally, left, getattr(tally, left) + 1)
    happened = left == "new"
    if not happened or command.steps or command.learnt:  # Else the same command would be one change more.
        said = ended(lambda: command.run(folder), command.learnt)
        if said != (command.learnt if happened else ""):
            return f"it left the {left} state, and then {said or 'did it once more'}"
    if command.rest(folder) != known.rest:
        return f"it left the {left} state, and went on to another result"
    if more := command.names(folder) - known.names:
        return f"it left the {left} state, went on to the result, and of the killed one there is {sorted(more)}"
    tally.equal += 1
    return ""
