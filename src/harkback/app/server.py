"""The app: its routes, how it fails, and what stands before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from harkback import __version__
from harkback.app.guard import HEADERS, Guard
from harkback.app.held import Held
from harkback.app.people import for_people
from harkback.app.programs import for_programs
from harkback.app.room import Room, Serving
from harkback.app.words import Failure, Problem, line_of
from harkback.errors import HarkbackError

ROOM = 1 << 20  #: bytes of a request beside its files
FAILURES: dict[int | str, dict[str, Any]] = {"default": {"model": Failure, "description": "It was not done: why"}}


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
    for_people(app, room)
    for_programs(app, room)
    allowed = serving.allowed
    most = {"/predict": allowed.bytes + ROOM, "/teach": allowed.lesson_bytes + ROOM}
    app.add_middleware(Guard, token=serving.token, hosts=serving.hosts, cookie=serving.cookie, most=most)
    return app


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
        return JSONResponse({"error": line}, 500, headers=HEADERS)  # It does not pass the guard.
