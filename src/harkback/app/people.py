"""The routes of the page: what a browser shows and what the page is made of."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from harkback.app import benches as reports
from harkback.app.room import Room
from harkback.app.words import BenchWord, Problem

STATIC = Path(__file__).parent / "static"
#: A report has pictures and styles of its own and nothing that runs.
REPORT_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'; form-action 'none'"
)
#: Said so, and not by the route's class, which would have failures described as pages too.
HTML: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}}, "description": "Part of a page, or a page"}
}


def for_people(app: FastAPI, room: Room) -> None:
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

    @app.get("/knows", response_class=Response, responses=HTML, tags=["people"])
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
        return Response(picture, media_type="image/jpeg")

    @app.get("/benches", tags=["people"])
    async def benches() -> list[BenchWord]:
        """The reports of benches."""
        return await asyncio.to_thread(reports.benches, serving.runs)

    @app.get("/benches/{name}", response_class=Response, responses=HTML, tags=["people"])
    async def bench(name: str) -> Response:
        """The report of a bench, a page of its own."""
        path = await asyncio.to_thread(reports.report, serving.runs, name)
        if path is None:
            raise Problem(404, "there is no such bench")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})
