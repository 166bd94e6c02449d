"""The app while it teaches: its server is killed, or the process in which the lesson runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from trials.killing import BEYOND, LOOKED, Tally, apart, state, waited
from trials.victims import at_rest, model_in, names_in

LABEL = "shrill"
WHOM = {"app, its server": False, "app, its lesson": True}


def app_trials(root: Path, kills: int, seed: int) -> Iterator[Tally]:
    for name, lessons in WHOM.items():
        yield _trial(name, root, kills, seed, the_lesson=lessons)


class Served:
    """A server of the app in a process of its own."""

    def __init__(self, model: Path, temporary: Path) -> None:
        from app_client import Client, until

        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = Client(listening.getsockname()[1])
            self.process = apart(lambda: _serve(model, temporary, listening))
        assert until(lambda: self.client.get("/health").status == 200)

    def end(self, how: signal.Signals) -> int:
        os.kill(self.process, how)
        return waited(self.process)


def _serve(model: Path, temporary: Path, listening: socket.socket) -> None:
    import uvicorn

    from harkback.app.prompt import config
    from harkback.app.room import Serving
    from harkback.app.server import make

    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = str(temporary)
    app = make(Serving(model, temporary / "no runs"))
    uvicorn.Server(config(app, log_config=None)).run(sockets=[listening])


@contextmanager
def served(model: Path, temporary: Path) -> Iterator[Served]:
    """It is asked to stop in the end, and must leave nothing."""
    server = Served(model, temporary)
    try:
        yield server
    finally:
        code = server.end(signal.SIGTERM)
    assert code in (0, -signal.SIGTERM), f"the server ended with {code}"
    assert not list(temporary.glob("harkback-app-*")), "the server left files"


def _taught(server: Served, clips: list[Path], *states: str) -> Any:
    """The lesson, as soon as it is over, or in one of the states."""
    begun = server.client.teach(LABEL, clips, force="true")
    assert begun.status == 202, begun
    return server.client.lesson(begun.json["id"], *states)


def _trial(name: str, root: Path, kills: int, seed: int, *, the_lesson: bool) -> Tally:
    from harkback.app.room import Serving
    from harkback.app.server import make
    from harkback.encoders import Opening
    from harkback.teaching import Making, teach

    began, draw, folder = time.monotonic(), Random(seed), root / "at work"
    tally, model, temporary = Tally(name, seed), folder / "model", folder / "temporary"
    material, base = root / "material", root / "app" / "model"
    if not base.exists():
        for session in (0, 1):
            clips = material / f"lesson-{session}"
            teach(base, clips, making=Making(learner="ncm", memory=8), encoder=Opening("signal").open())
    clips = [*sorted((material / "lesson-2").rglob("*.wav"))[:3], *sorted((material / "lesson-2").rglob("*.mp4"))]
    make(
        Serving(base, temporary / "no runs")
    )  # Here, so that the servers that are forked have all that is loaded late.

    def put() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copytree(base, model)

    lengths = []
    for _ in range(LOOKED):
        put()
        with served(model, temporary) as server:
            begun = server.client.teach(LABEL, clips, force="true").json["id"]
            if the_lesson:
                server.client.lesson(begun, "writing")
            since = time.perf_counter()
            assert server.client.lesson(begun)["state"] == "done"
            lengths.append(time.perf_counter() - since)
    new, rest, names = model_in(model), at_rest(model), names_in(model)
    old, tally.seconds = model_in(base), median(lengths)

    while tally.inside < kills:
        put()
        # Of every second trial in the last fifth, in which the model changes: all else is reading and learning.
        first = 0.8 * (tally.kills % 2)
        moment = (first + draw.random() * (BEYOND - first)) * tally.seconds
        tally.kills += 1
        server = Served(model, temporary)
        begun = server.client.teach(LABEL, clips, force="true").json["id"]
        if the_lesson:
            server.client.lesson(begun, "writing", "done")
        time.sleep(moment)
        over = server.client.lesson(begun, "waiting", "reading", "learning", "writing", "done", "failed")["state"]
        if over == "done" or (the_lesson and not _end_lessons()):
            server.end(signal.SIGTERM)
            continue
        tally.inside += 1
        try:
            if the_lesson:
                why = _lesson_lost(server, begun, model, old, new, tally)
                code = server.end(signal.SIGTERM)
                why = why or ("" if code in (0, -signal.SIGTERM) else f"the server ended with {code}")
            else:
                server.end(signal.SIGKILL)
                why = _left(model, old, new, tally)
            why = why or _goes_on(model, temporary, clips, rest, names)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        if why:
            tally.wrong.append(f"kill {tally.kills}, after {moment:.4f} s: {why}")
        else:
            tally.equal += 1
    tally.took = time.monotonic() - began
    return tally


def _left(model: Path, old: Any, new: Any, tally: Tally) -> str:
    left = state(model_in(model), old, new, steps=False)
    if left == "neither":
        return "it left neither the old state nor the new one"
    setattr(tally, left, getattr(tally, left) + 1)
    return ""


def _lesson_lost(server: Served, begun: str, model: Path, old: Any, new: Any, tally: Tally) -> str:
    """The server lives; what it says of the lesson must be what became of the model."""
    said = server.client.lesson(begun)
    if why := _left(model, old, new, tally):
        return why
    happened = model_in(model) == new
    if said["state"] != ("done" if happened else "failed"):
        return (
            f"the lesson is called {said['state']} ({said['error']}), and the model is {'new' if happened else 'old'}"
        )
    version = server.client.get("/model").json["version"]
    return "" if version == (3 if happened else 2) else f"it takes the model for version {version}"


def _goes_on(model: Path, temporary: Path, clips: list[Path], rest: Any, names: set[str]) -> str:
    """Another server, and the same lesson once more."""
    with served(model, temporary) as server:
        happened = server.client.get("/model").json["version"] == 3
        lesson = _taught(server, clips)
        if happened and "nothing new to learn" not in str(lesson["error"]):
            return f"it was taught twice: {lesson}"
        if not happened and lesson["state"] != "done":
            return f"the same lesson is called {lesson['state']} then: {lesson['error']}"
    if at_rest(model) != rest:
        return "it went on to another result"
    more = names_in(model) - names
    return f"of the killed one there is {sorted(more)}" if more else ""


def _end_lessons() -> bool:
    """Kill the processes that work for the server; False: there is none."""
    import psutil

    server = psutil.Process(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
    killed = 0
    for each in server.children():
        with suppress(psutil.NoSuchProcess):
            if each.status() != psutil.STATUS_ZOMBIE:
                each.kill()
                killed += 1
    return killed > 0
