"""The routes: a page for people, the same for programs."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from harkback import __version__
from harkback.app import benches as reports
from harkback.app.asking import Asking, Head, Question
from harkback.app.guard import Guard
from harkback.app.held import LESSON, Allowed, Held
from harkback.app.lessons import Lesson, School
from harkback.app.uploads import Scratch, keep, title
from harkback.app.words import (
    AnswerWord,
    BenchWord,
    Decision,
    Failure,
    Forgetting,
    Health,
    LessonWord,
    ModelFacts,
    Prediction,
    Problem,
    Step,
    line_of,
)
from harkback.confined import DECODING, warm
from harkback.errors import HarkbackError
from harkback.model import undo
from harkback.workers import cores

T = TypeVar("T")

STATIC = Path(__file__).parent / "static"
LINES = "application/x-ndjson"
ROOM = 1 << 20  #: bytes of a request beside its files
CROWD = 200  #: predictions that may wait
#: A report has pictures and styles of its own and nothing that runs.
REPORT_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'; form-action 'none'"
)
FAILURES: dict[int | str, dict[str, Any]] = {"default": {"model": Failure, "description": "It was not done: why"}}


@dataclass(frozen=True, slots=True)
class Serving:
    """How the app is served."""

    model: Path
    runs: Path = Path("harkback-runs")  #: folder of benches
    pictures: bool = True  #: keep small pictures of the clips of lessons
    token: str | None = None  #: None: whoever can reach the server may use it
    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "::1"})  #: its names, where there is no token
    port: int = 0  #: tells cookies of two servers apart
    allowed: Allowed = field(default_factory=Allowed)
    weights: str | None = None  #: where the model of the encoder lies
    device: str | None = None
    dtype: str | None = None

    @property
    def cookie(self) -> str:
        return f"harkback-{self.port}"


def make(serving: Serving) -> FastAPI:
    """The app; raises `HarkbackError` if the model's folder is none, or damaged."""
    held = Held(serving.model, weights=serving.weights, device=serving.device, dtype=serving.dtype)
    held.encoder()  # What cannot be asked is told before anybody asks.
    room = Room(serving, held)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        room.open()
        try:
            yield
        finally:
            await asyncio.to_thread(room.close)

    app = FastAPI(
        title="Harkback",
        version=__version__,
        description=f"Ask and teach the model “{held.name}”.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=FAILURES,
    )
    _answer_failures(app, serving)
    _for_people(app, room)
    _for_programs(app, room)
    body = serving.allowed.bytes + ROOM
    most = {"/predict": body, "/teach": LESSON * serving.allowed.bytes + ROOM}
    app.add_middleware(Guard, token=serving.token, hosts=serving.hosts, cookie=serving.cookie, most=most)
    return app


class Room:
    """What all requests share."""

    def __init__(self, serving: Serving, held: Held) -> None:
        self.serving, self.held = serving, held

    def open(self) -> None:
        self.scratch = Scratch()
        self.school = School(self.held, self.serving.allowed, pictures=self.serving.pictures)
        self.turns = asyncio.Semaphore(cores())  #: files that are decoded side by side
        self.asked = 0
        threading.Thread(target=warm, daemon=True).start()

    def close(self) -> None:
        self.school.close()
        self.scratch.close()

    async def facts(self) -> ModelFacts:
        return await asyncio.to_thread(self.held.facts, self.serving.allowed)

    async def change(self, do: Callable[[], object], version: int | None) -> ModelFacts:
        """In its turn; then what the model has become."""
        try:
            await asyncio.wrap_future(self.school.changing(do, version))
        except HarkbackError as error:
            raise Problem(409, line_of(error, {str(self.held.path): self.held.name})) from error
        return await self.facts()

    async def answers(self, path: Path, name: str, question: Question) -> AsyncGenerator[Head | AnswerWord, None]:
        """The file is gone when they end, or when nobody wants them any more."""
        try:
            async with self.turns:
                limits = replace(DECODING, length=self.serving.allowed.seconds)
                asking = await asyncio.to_thread(Asking, self.held, path, question, limits)
                parts = asking.parts()
                step: asyncio.Future[Head | AnswerWord | None] | None = None
                try:
                    while True:
                        step = asyncio.ensure_future(asyncio.to_thread(next, parts, None))
                        part = await asyncio.shield(step)
                        if part is None:
                            return
                        yield part
                finally:
                    asking.stop()
                    if step is not None and not step.done():
                        await asyncio.wait([step])  # It ends at once: its process has.
                    await asyncio.to_thread(parts.close)
        except HarkbackError as error:
            raise Problem(422, line_of(error, {str(path): name, str(self.held.path): self.held.name})) from error
        finally:
            self.asked -= 1
            await asyncio.to_thread(shutil.rmtree, path.parent, ignore_errors=True)


# ---- failures -------------------------------------------------------------------------------------------------------


def _answer_failures(app: FastAPI, serving: Serving) -> None:
    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        line = error.detail if isinstance(error, Problem) else f"{error.detail}: {request.method} {request.url.path}"
        return JSONResponse({"error": line}, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def unfit(_: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        where = ".".join(str(part) for part in found["loc"][1:]) or "the request"
        return JSONResponse({"error": f"{where}: {found['msg']}"}, 422)

    @app.exception_handler(HarkbackError)
    async def failed(_: Request, error: HarkbackError) -> Response:
        return JSONResponse({"error": line_of(error, {str(serving.model): serving.model.name})}, 409)

    @app.exception_handler(Exception)
    async def defect(_: Request, error: Exception) -> Response:
        line = f"this is a defect of harkback: {type(error).__name__}; please report it"
        return JSONResponse({"error": line}, 500)


# ---- for people -----------------------------------------------------------------------------------------------------


def _for_people(app: FastAPI, room: Room) -> None:
    serving, held = room.serving, room.held

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html")

    @app.get("/login", include_in_schema=False)
    async def login(token: str = "") -> Response:
        if serving.token is None or secrets.compare_digest(token.encode(), serving.token.encode()):
            response: Response = RedirectResponse("/", 303)
            if serving.token is not None:
                response.set_cookie(serving.cookie, serving.token, httponly=True, samesite="strict")
            return response
        return FileResponse(STATIC / "login.html", 401 if token else 200)

    @app.get("/static/base.css", include_in_schema=False)
    async def base() -> Response:
        from harkback.app.pages import style

        return Response(await asyncio.to_thread(style), media_type="text/css")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        from harkback.app.pages import reference

        return HTMLResponse(await asyncio.to_thread(reference, app.openapi()))

    @app.get("/knows", response_class=HTMLResponse, tags=["people"])
    async def knows() -> Response:
        """What the model knows, as sections of the page."""
        return HTMLResponse(await asyncio.to_thread(held.knows))

    @app.get(
        "/examples/{key}",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "A small picture"}},
        tags=["people"],
    )
    async def example(key: str) -> Response:
        """A small picture of a clip that the model was taught."""
        picture = await asyncio.to_thread(held.example, key)
        if picture is None:
            raise Problem(404, "there is no such picture")
        return Response(picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    @app.get("/benches", tags=["people"])
    async def benches() -> list[BenchWord]:
        """The reports of benches."""
        return await asyncio.to_thread(reports.benches, serving.runs)

    @app.get("/benches/{name}", response_class=HTMLResponse, tags=["people"])
    async def bench(name: str) -> Response:
        """The report of a bench, a page of its own."""
        path = await asyncio.to_thread(reports.report, serving.runs, name)
        if path is None:
            raise Problem(404, "there is no such bench")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


# ---- for programs ---------------------------------------------------------------------------------------------------


def _for_programs(app: FastAPI, room: Room) -> None:
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
            place = room.scratch.new() / "clip"
            path = await asyncio.to_thread(keep, file.file, file.filename or "", place, serving.allowed.bytes)
        except BaseException:
            room.asked -= 1
            raise
        found = room.answers(path, name, Question(window, false_alarm, frames))
        if LINES not in request.headers.get("accept", ""):
            head, *answers = [part async for part in found]
            assert isinstance(head, Head)
            return Prediction(
                file=name, seconds=head.seconds, answers=[a for a in answers if isinstance(a, AnswerWord)]
            )
        head = await anext(found)  # What cannot be read at all is told by the status.
        assert isinstance(head, Head)
        return StreamingResponse(_lines(name, head, found), media_type=LINES)

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
        folder = room.scratch.new()
        try:
            paths = []
            for number, file in enumerate(files):
                place = folder / f"{number:04d}"
                paths.append(
                    await asyncio.to_thread(keep, file.file, file.filename or "", place, serving.allowed.bytes)
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        names = tuple(title(file.filename) for file in files)
        word = room.school.begin(Lesson(name, names, folder, tuple(paths), dry_run, force))
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
        return await room.change(lambda: held.taught().forget(what.name), what.version)


async def _lines(name: str, head: Head, found: AsyncGenerator[Head | AnswerWord, None]) -> AsyncIterator[str]:
    yield _line({"file": name, "seconds": head.seconds, "windows": head.windows})
    try:
        async with aclosing(found):
            async for part in found:
                assert isinstance(part, AnswerWord)
                yield _line({"answer": part.model_dump()})
        yield _line({"done": True})
    except Problem as problem:
        yield _line({"error": problem.detail})


def _line(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False) + "\n"
