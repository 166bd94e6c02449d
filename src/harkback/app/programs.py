"""The routes for programs, which the page uses too: ask, teach, undo, forget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from harkback import __version__
from harkback.app.asking import Head, Question
from harkback.app.lessons import Lesson
from harkback.app.room import Room
from harkback.app.uploads import title
from harkback.app.words import (
    AnswerWord,
    Decision,
    Forgetting,
    Health,
    LessonWord,
    ModelFacts,
    Prediction,
    Problem,
    Step,
)
from harkback.model import undo

PICTURES = 64 << 20  #: bytes of pictures in an answer that is held until it is whole
LINES = "application/x-ndjson"
CROWD = 200  #: predictions that may wait


def for_programs(app: FastAPI, room: Room) -> None:
    serving, held = room.serving, room.held

    @app.get("/health")
    async def health() -> Health:
        """Whether the server is awake, and the model's version."""
        version = await asyncio.to_thread(lambda: held.version)
        waiting = room.school.waiting
        return Health(status="ok", harkback=__version__, model=held.name, version=version, waiting=waiting)

    @app.get("/model")
    async def model() -> ModelFacts:
        """What the model knows."""
        return await room.facts()

    @app.post(
        "/predict",
        response_model=Prediction,
        responses={200: {"content": {LINES: {}}, "description": "Answers, or a line of JSON for each as it comes"}},
    )
    async def predict(
        request: Request,
        file: Annotated[UploadFile, File(description="a video, a sound file or a picture")],
        window: Annotated[
            float | None, Form(ge=0, le=86400, description="seconds asked at once; 0: all; none: as it was taught")
        ] = None,
        false_alarm: Annotated[float | None, Form(gt=0, lt=1, description="none: the model's own")] = None,
        frames: Annotated[bool, Form(description="with the frames as pictures")] = False,
    ) -> Any:
        """What is in a file, window by window.

        With ``Accept: application/x-ndjson`` each answer comes as soon as it is found: first a line with file, seconds
        and windows, then lines with an answer each, last one with done, or with an error.
        """
        await asyncio.to_thread(held.taught)
        if room.asked >= CROWD:
            raise Problem(503, f"{CROWD} files wait already; try again later")
        room.asked += 1
        name = title(file.filename)
        try:
            (path,) = await asyncio.to_thread(room.keep, [file])
        except BaseException:
            room.asked -= 1
            raise
        found = room.answers(path, name, Question(window, false_alarm, frames))
        if LINES not in request.headers.get("accept", ""):
            return await _whole(name, found)
        head = await anext(found)  # What cannot be read at all is told by the status.
        assert isinstance(head, Head)
        return Lines(name, head, found)

    @app.post("/teach", status_code=202)
    async def teach(
        response: Response,
        label: Annotated[str, Form(min_length=1, max_length=255, description="name of the class")],
        files: Annotated[list[UploadFile], File(description="clips of it")],
        dry_run: Annotated[bool, Form(description="find out what it costs, then wait for a decision")] = False,
        force: Annotated[bool, Form(description="teach however much of the old classes it costs")] = False,
    ) -> LessonWord:
        """Teach clips of a class. The answer is a lesson: ask for it again, by its id, until it is done."""
        name = await asyncio.to_thread(room.school.check, label)
        if len(files) > serving.allowed.files:
            raise Problem(413, f"{len(files)} files are too many; send {serving.allowed.files} at most")
        paths = await asyncio.to_thread(room.keep, files)
        names = tuple(title(file.filename) for file in files)
        word = room.school.begin(Lesson(name, names, paths[0].parent, paths, dry_run, force))
        response.headers["location"] = f"/lessons/{word.id}"
        return word

    @app.get("/lessons/{lesson}")
    async def lesson(lesson: str) -> LessonWord:
        """How far a lesson has come."""
        return await asyncio.to_thread(room.school.word, lesson)

    @app.post("/lessons/{lesson}/commit", status_code=202)
    async def commit(lesson: str, decision: Decision) -> LessonWord:
        """Teach a lesson that waits for a decision."""
        return await asyncio.to_thread(room.school.commit, lesson, decision.force)

    @app.delete("/lessons/{lesson}")
    async def leave(lesson: str) -> LessonWord:
        """Leave a lesson; its clips are deleted."""
        return await asyncio.to_thread(room.school.discard, lesson)

    @app.post("/undo")
    async def step_back(step: Step) -> ModelFacts:
        """Step back to the version before."""
        return await room.change(partial(undo, held.path), step.version)

    @app.post("/forget")
    async def forget(what: Forgetting) -> ModelFacts:
        """Take a class out of the model and of every version it keeps."""
        return await room.change(partial(held.forget, what.name), what.version)


async def _whole(name: str, parts: AsyncGenerator[Head | AnswerWord, None]) -> Prediction:
    """All answers at once, which must fit in memory beside those of others."""
    answers: list[AnswerWord] = []
    pictures = 0
    async with aclosing(parts):
        head = await anext(parts)
        assert isinstance(head, Head)
        async for part in parts:
            assert isinstance(part, AnswerWord)
            pictures += sum(map(len, part.pictures or ()))
            if pictures > PICTURES:
                raise Problem(413, f"its pictures are too many for one answer; ask for {LINES}, or for no frames")
            answers.append(part)
    return Prediction(file=name, seconds=head.seconds, answers=answers)


class Lines(StreamingResponse):
    """Answers as they come. They end with the response, however that ends: its client may have gone, or be stuck."""

    media_type = LINES

    def __init__(self, name: str, head: Head, found: AsyncGenerator[Head | AnswerWord, None]) -> None:
        super().__init__(_lines(name, head, found))
        self._found = found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._found.aclose()


async def _lines(name: str, head: Head, found: AsyncGenerator[Head | AnswerWord, None]) -> AsyncIterator[str]:
    yield _line({"file": name, "seconds": head.seconds, "windows": head.windows})
    try:
        async for part in found:
            assert isinstance(part, AnswerWord)
            yield _line({"answer": part.model_dump()})
        yield _line({"done": True})
    except Problem as problem:
        yield _line({"error": problem.detail})


def _line(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False) + "\n"
