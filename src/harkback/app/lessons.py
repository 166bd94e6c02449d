"""Lessons that clients send: read, weighed, then taught or left; one at a time, in the order in which they came."""

from __future__ import annotations

import csv
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from harkback.app.held import Allowed, Held
from harkback.app.learning import learn, outcome_of
from harkback.app.words import LessonClip, LessonWord, Outcome, Problem, State, line_of
from harkback.clips import Clip
from harkback.confined import DECODING, Confined, Crashed, Limits, stop_all
from harkback.datasets._found import class_name
from harkback.encoders import bare
from harkback.errors import HarkbackError
from harkback.extract import extract
from harkback.names import check_names
from harkback.workers import cores

T = TypeVar("T")

UNDECIDED = 3600.0  #: seconds that a lesson waits for somebody to decide
WAITING = 8  #: lessons that may wait
ASKING = 24  #: lessons that may wait for a decision; their clips lie on the disk meanwhile
KEPT = 200  #: lessons that are remembered after their end
STORE = "features"
ENDED: tuple[State, ...] = ("done", "discarded", "failed")


@dataclass(slots=True)
class Lesson:
    """Clips of one class, and what became of them."""

    label: str
    names: tuple[str, ...]  #: of the files, as the client calls them
    folder: Path  #: where they lie
    paths: tuple[Path, ...]
    dry_run: bool
    force: bool
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    state: State = "waiting"
    read: int = 0
    reasons: dict[int, str] = field(default_factory=dict)  #: why a file is left out, by its place
    error: str | None = None
    outcome: Outcome | None = None
    base: int = 0  #: the model's version that the outcome speaks of
    keys: frozenset[str] = frozenset()  #: the contents of those that were read
    began: float = field(default_factory=time.monotonic)
    changed: float = field(default_factory=time.monotonic)

    def become(self, state: State) -> None:
        self.state, self.changed = state, time.monotonic()

    def end(self, state: State) -> None:
        self.become(state)
        shutil.rmtree(self.folder, ignore_errors=True)

    def word(self, before_it: int) -> LessonWord:
        clips = []
        for place, name in enumerate(self.names):
            reason = self.reasons.get(place)
            state = "left out" if reason is not None else "read" if place < self.read else "waiting"
            clips.append(LessonClip.model_validate({"name": name, "state": state, "reason": reason}))
        until = self.changed if self.state in ENDED else time.monotonic()
        return LessonWord(
            id=self.id,
            label=self.label,
            state=self.state,
            before_it=before_it,
            read=self.read,
            clips=clips,
            seconds=round(until - self.began, 3),
            error=self.error,
            outcome=self.outcome,
        )


class School:
    """All changes of one model, one after the other."""

    def __init__(self, held: Held, allowed: Allowed, *, pictures: bool = True) -> None:
        """pictures: keep small ones of what is taught."""
        self._held, self._limits, self._pictures = held, replace(DECODING, length=allowed.seconds), pictures
        self._lessons: dict[str, Lesson] = {}
        self._line = ThreadPoolExecutor(1, thread_name_prefix="lessons")
        self._lock = threading.Lock()
        self._closed = False

    # ---- what clients do ----

    def check(self, label: str) -> str:
        """The name of a class as it will be; raises `Problem` if there cannot be such a class, or no more lessons."""
        name, model = class_name(label), self._held.model()
        known = () if model is None else model.classes
        try:
            check_names([] if name in known else [name], known)
        except HarkbackError as error:
            raise Problem(422, str(error)) from error
        if self.waiting >= WAITING:
            raise Problem(503, f"{WAITING} lessons wait already; try again when they are learnt")
        if self._count("asking") >= ASKING:
            raise Problem(503, f"{ASKING} lessons wait for a decision; teach or leave some of them first")
        return name

    def begin(self, lesson: Lesson) -> LessonWord:
        with self._lock:
            ended = [each.id for each in self._lessons.values() if each.state in ENDED]
            for name in ended[: max(0, len(ended) - KEPT)]:
                del self._lessons[name]
            self._lessons[lesson.id] = lesson
        self._line.submit(self._take, lesson)
        return self.word(lesson.id)

    def commit(self, name: str, force: bool) -> LessonWord:
        """Teach a lesson that was weighed; `Problem` if the model has changed since, and then it is weighed anew."""
        lesson = self._find(name)
        with self._lock:
            if lesson.state != "asking":
                raise Problem(409, f"this lesson is {lesson.state}, so there is nothing to decide")
            lesson.force = force
            stale = lesson.base != self._held.version
            if not stale and lesson.outcome is not None and lesson.outcome.too_dear and not force:
                raise Problem(409, "it costs more of the old classes than may be lost; force it, or leave it")
            lesson.become("waiting")
        self._line.submit(self._weigh if stale else self._write, lesson)
        if stale:
            raise Problem(409, "the model has changed meanwhile; what it costs is reckoned anew")
        return self.word(name)

    def discard(self, name: str) -> LessonWord:
        lesson = self._find(name)
        with self._lock:
            if lesson.state in ("learning", "writing"):
                raise Problem(409, f"this lesson is {lesson.state}; undo it afterwards")
            if lesson.state not in ENDED:
                lesson.end("discarded")
        return self.word(name)

    def word(self, name: str) -> LessonWord:
        lesson = self._find(name)
        with self._lock:
            ahead = 0
            for each in self._lessons.values():
                if each is lesson:
                    break
                ahead += each.state in ("waiting", "reading", "learning", "writing")
        return lesson.word(ahead if lesson.state == "waiting" else 0)

    def changing(self, change: Callable[[], T], version: int | None) -> Future[T]:
        """``change`` in its turn; version: what the client takes for the model's, None: it does not care."""

        def run() -> T:
            if version is not None and version != self._held.version:
                raise Problem(409, "the model has changed meanwhile; look at it first")
            return change()

        return self._line.submit(run)

    @property
    def waiting(self) -> int:
        return self._count("waiting", "reading", "learning", "writing")

    def _count(self, *states: State) -> int:
        self._expire()
        with self._lock:
            return sum(each.state in states for each in self._lessons.values())

    def close(self) -> None:
        """Break off what runs: the model stays as it is, or as it has become."""
        self._closed = True
        self._line.shutdown(wait=False, cancel_futures=True)
        stop_all()  # What hangs in a file would keep the end waiting.
        self._line.shutdown(wait=True)

    def _find(self, name: str) -> Lesson:
        self._expire()
        with self._lock:
            if name not in self._lessons:
                raise Problem(404, "there is no such lesson; it may have ended long ago")
            return self._lessons[name]

    def _expire(self) -> None:
        with self._lock:
            for lesson in self._lessons.values():
                if lesson.state == "asking" and time.monotonic() - lesson.changed > UNDECIDED:
                    lesson.error = "nobody decided for an hour, so it was left"
                    lesson.end("discarded")

    # ---- in the line ----

    def _take(self, lesson: Lesson) -> None:
        with self._failing(lesson):
            if not self._turn(lesson, "reading"):
                return
            encoder = self._held.encoder()
            clips = [Clip(path.name, path, lesson.label) for path in lesson.paths]
            places = {clip.id: place for place, clip in enumerate(clips)}

            def tell(clip: Clip) -> None:
                lesson.read = max(lesson.read, places[clip.id] + 1)
                if lesson.state == "discarded" or self._closed:
                    raise _Left

            done = extract(clips, encoder, lesson.folder / STORE, workers=cores(), limits=self._limits, tell=tell)
            lesson.read, lesson.keys = len(clips), frozenset(done.keys)
            for skip in done.skips:
                lesson.reasons[places[skip.id]] = skip.reason
            if not done.clips:
                raise HarkbackError(f"none of its clips can be read; the first: {next(iter(lesson.reasons.values()))}")
            if lesson.state != "reading":
                raise _Left
            with (lesson.folder / "clips.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("path", "label"), *((clip.id, lesson.label) for clip in done.clips)])
            if lesson.dry_run:
                self._weigh(lesson)
            else:
                self._write(lesson)

    def _weigh(self, lesson: Lesson) -> None:
        """Find out what it would cost."""
        with self._failing(lesson):
            if not self._turn(lesson, "learning"):
                return
            lesson.base = self._held.version
            lesson.outcome = self._teach(lesson, dry_run=True)
            lesson.become("asking")

    def _write(self, lesson: Lesson) -> None:
        with self._failing(lesson):
            if lesson.outcome is not None and lesson.base != self._held.version:  # Changed while it waited.
                self._weigh(lesson)
                return
            if not self._turn(lesson, "writing"):
                return
            before = self._held.version
            try:
                outcome = self._teach(lesson, dry_run=False)
            except HarkbackError:  # Its process was lost, perhaps behind the moment at which the model had changed.
                record, known = self._last(before)
                if record is None or not lesson.keys.intersection(record.get("clips", {}).get(lesson.label, ())):
                    raise
                outcome = outcome_of(lesson.label, record, known)
            lesson.outcome = outcome.model_copy(update={"version": self._held.version})
            lesson.end("done")

    def _teach(self, lesson: Lesson, *, dry_run: bool) -> Outcome:
        """In a process of its own: the server stays awake, and what learning takes is given back."""
        encoder = bare(self._held.encoder())
        store = lesson.folder / STORE
        given = (self._held.path, lesson.folder, store, encoder, lesson.force, dry_run, self._pictures)
        try:
            with Confined(learn, *given, limits=Limits(), threads=cores()) as running:
                ((facts, _),) = running
        except Crashed:
            what = "the process that learnt was ended from outside, perhaps for want of memory"
            raise HarkbackError(what, mend="end other programs and send it again") from None
        places = {path.name: place for place, path in enumerate(lesson.paths)}
        for name, reason in facts["skips"]:
            lesson.reasons[places[name]] = reason
        return outcome_of(lesson.label, facts["record"], len(facts["counts"]))

    def _last(self, before: int) -> tuple[Mapping[str, Any] | None, int]:
        """The record of the change that came next after a version, if it is the last; how many classes are known."""
        model = self._held.model()
        if model is None or model.facts["version"] != before + 1:
            return None, 0
        return model.facts["sessions"][-1], len(model.classes)

    def _turn(self, lesson: Lesson, state: State) -> bool:
        """Its next state; False: it was left, or the server ends."""
        with self._lock:
            if self._closed or lesson.state in ENDED:
                return False
            lesson.become(state)
            return True

    @contextmanager
    def _failing(self, lesson: Lesson) -> Iterator[None]:
        """Whatever goes wrong is the lesson's failure, in words for its client."""
        names: dict[str, str] = {str(path): name for path, name in zip(lesson.paths, lesson.names, strict=True)}
        names |= {path.name: name for path, name in zip(lesson.paths, lesson.names, strict=True)}
        names |= {str(lesson.folder): "the lesson", str(self._held.path): self._held.name}
        try:
            yield
        except _Left:
            with suppress(OSError):
                shutil.rmtree(lesson.folder)
        except HarkbackError as error:
            self._fail(lesson, line_of(error, names))
        except Exception as error:
            self._fail(lesson, f"this is a defect of harkback: {type(error).__name__}; please report it")

    def _fail(self, lesson: Lesson, why: str) -> None:
        with self._lock:
            if lesson.state == "discarded":  # Its files were taken from under whoever read them: that is no failure.
                shutil.rmtree(lesson.folder, ignore_errors=True)
                return
            lesson.error = why
            lesson.end("failed")


class _Left(Exception):
    """Its client has left the lesson, or the server ends."""
