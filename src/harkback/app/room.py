"""What all requests share: the model, the folder for uploads, and whose turn it is."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastapi import UploadFile

from harkback.app.asking import Asking, Head, Question
from harkback.app.held import Allowed, Held
from harkback.app.lessons import School
from harkback.app.uploads import Scratch, keep
from harkback.app.words import AnswerWord, ModelFacts, Problem, line_of
from harkback.confined import DECODING, warm
from harkback.errors import HarkbackError
from harkback.workers import cores


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


class Room:
    """What all requests share."""

    def __init__(self, serving: Serving, held: Held) -> None:
        self.serving, self.held = serving, held

    def open(self) -> None:
        self.scratch = Scratch()
        self.school = School(self.held, self.serving.allowed, pictures=self.serving.pictures)
        self.turns = asyncio.Semaphore(cores())  #: files that are decoded side by side
        self.asked = 0
        self.tidying: set[asyncio.Future[None]] = set()  #: after requests; asyncio itself holds them but weakly
        threading.Thread(target=warm, daemon=True).start()

    def close(self) -> None:
        self.school.close()
        self.scratch.close()

    def keep(self, files: Sequence[UploadFile]) -> tuple[Path, ...]:
        """Copy uploads into a new folder; if one cannot be kept, there is none."""
        folder, most = self.scratch.new(), self.serving.allowed.bytes
        try:
            return tuple(
                keep(file.file, file.filename or "", folder / f"clip-{number:04d}", most)
                for number, file in enumerate(files)
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

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
        asking: Asking | None = None
        step: asyncio.Future[Head | AnswerWord | None] | None = None
        try:
            async with self.turns:
                limits = replace(DECODING, length=self.serving.allowed.seconds)
                asking = await asyncio.to_thread(Asking, self.held, path, question, limits)
                while True:
                    step = asyncio.ensure_future(asyncio.to_thread(next, asking.parts, None))
                    part = await asyncio.shield(step)
                    if part is None:
                        return
                    yield part
        except HarkbackError as error:
            raise Problem(422, line_of(error, {str(path): name, str(self.held.path): self.held.name})) from error
        finally:
            self.asked -= 1
            if asking is not None:
                asking.stop()
            # The request of a client that went away is cancelled, again and again: this goes on without it.
            tidying = asyncio.ensure_future(self._tidy(path, asking, step))
            self.tidying.add(tidying)
            tidying.add_done_callback(self.tidying.discard)
            await asyncio.shield(tidying)
            # A failure knows this frame, and this frame the failure: such rings keep models that long have changed.
            asking = step = None

    async def _tidy(self, path: Path, asking: Asking | None, step: asyncio.Future[Any] | None) -> None:
        if asking is not None and step is not None:
            await asyncio.gather(step, return_exceptions=True)  # It ends at once: its process has.
            await asyncio.to_thread(asking.close)
        await asyncio.to_thread(shutil.rmtree, path.parent, ignore_errors=True)
