"""The app as a client meets it: the real server in a thread, on a port of the loopback, asked by plain HTTP."""

from __future__ import annotations

import json
import logging
import multiprocessing.forkserver
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import uvicorn

from harkback.app.programs import LINES
from harkback.app.prompt import config
from harkback.app.room import Serving
from harkback.app.server import make
from harkback.app.uploads import LOCK, PREFIX
from harkback.confined import warm
from patience import PATIENCE, until

SOON = 20.0  #: seconds that may pass until what is over has been put away
Part = tuple[str, str | None, bytes]  #: of a form: name, file name, content


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]  #: names in small letters
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        assert self.headers["content-type"].startswith(LINES), self
        return [json.loads(line) for line in self.body.decode().splitlines()]

    @property
    def error(self) -> str:
        """The one line of a refusal; it must be one, and nothing else."""
        found = self.json
        assert self.status >= 400 and list(found) == ["error"], self
        assert found["error"] and "\n" not in found["error"] and "Traceback" not in found["error"], self
        return str(found["error"])


def form(parts: Sequence[Part]) -> tuple[bytes, str]:
    """A multipart body, and its content type. Names are put in as they are, so that they may be hostile."""
    boundary = secrets.token_hex(16)
    body = b""
    for name, file, content in parts:
        about = f'form-data; name="{name}"' + ("" if file is None else f'; filename="{file}"')
        kind = "" if file is None else "content-type: application/octet-stream\r\n"
        head = f"--{boundary}\r\ncontent-disposition: {about}\r\n{kind}\r\n"
        body += head.encode("utf-8", "surrogateescape") + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def parts(file: Path | bytes, name: str | None = None, field: str = "file", **fields: Any) -> list[Part]:
    content = file if isinstance(file, bytes) else file.read_bytes()
    title = name or (file.name if isinstance(file, Path) else "clip.mp4")
    return [*_fields(fields), (field, title, content)]


def _fields(fields: Mapping[str, Any]) -> list[Part]:
    return [(name, None, str(value).encode()) for name, value in fields.items()]


@dataclass(slots=True)
class Client:
    port: int
    headers: dict[str, str] = field(default_factory=dict)  #: sent with every request
    refused: list[Reply] = field(default_factory=list)  #: every answer from 400 on

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, headers: Mapping[str, str] = {}
    ) -> Reply:
        """headers: of this request, in place of the client's of that name."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body, headers={**self.headers, **headers})
            response = connection.getresponse()
            said = {name.lower(): value for name, value in response.getheaders()}
            reply = Reply(response.status, said, response.read())
        finally:
            connection.close()
        if reply.status >= 400:
            self.refused.append(reply)
        return reply

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, words: Any) -> Reply:
        return self.ask("POST", path, json.dumps(words).encode(), {"content-type": "application/json"})

    def send(self, path: str, parts: Sequence[Part], **headers: str) -> Reply:
        body, kind = form(parts)
        return self.ask("POST", path, body, {"content-type": kind, **headers})

    def predict(self, file: Path | bytes, name: str | None = None, **fields: Any) -> Reply:
        return self.send("/predict", parts(file, name, **fields))

    def teach(self, label: str, files: Sequence[Path], **fields: Any) -> Reply:
        """The lesson as it begins."""
        clips: list[Part] = [("files", file.name, file.read_bytes()) for file in files]
        return self.send("/teach", [*_fields({"label": label, **fields}), *clips])

    def lesson(self, name: str, *states: str) -> Any:
        """The lesson as soon as it is in one of the states; none: as soon as it does nothing any more."""
        wanted = states or ("asking", "done", "discarded", "failed")
        found = until(lambda: word if (word := self.get(f"/lessons/{name}").json)["state"] in wanted else None)
        assert found is not None
        return found

    def taught(self, label: str, files: Sequence[Path], **fields: Any) -> Any:
        """A whole lesson, up to where it waits for somebody or ends."""
        begun = self.teach(label, files, **fields)
        assert begun.status == 202, begun
        return self.lesson(begun.json["id"])

    def raw(self, request: bytes, *, wait: float = PATIENCE) -> bytes:
        """Bytes as they are -> bytes, until the server closes the connection or says nothing for so many seconds."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as line:
            said = b""
            try:
                line.sendall(request)
                while piece := line.recv(1 << 16):
                    said += piece
            except (TimeoutError, ConnectionError):
                pass
            return said


@dataclass(slots=True)
class Server:
    client: Client
    model: Path
    temporary: Path  #: where it makes its scratch folder
    said: list[str]  #: its warnings and errors

    @property
    def scratch(self) -> Path:
        (folder,) = self.temporary.glob(f"{PREFIX}*")
        return folder

    def left(self) -> list[str]:
        """What lies in the scratch folder but the lock."""
        found = (path.relative_to(self.scratch).as_posix() for path in self.scratch.rglob("*"))
        return sorted(name for name in found if name != LOCK)

    def swept(self) -> bool:
        """Nothing of any request is left, and no process that worked for one."""
        return bool(until(lambda: not self.left() and not workers(), SOON))


class _Listening(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@contextmanager
def served(model: Path, temporary: Path, **options: Any) -> Iterator[Server]:
    """The app of a model, with a client. temporary: a folder for its temporary files; options: of `Serving`."""
    warm()  # Where it listens is named after the temporary folder, and the tests' own are too long for that.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        temporary.mkdir(exist_ok=True)
        said: list[str] = []
        logs, ear = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")], _Listening(said)
        before, tempfile.tempdir = tempfile.tempdir, str(temporary)
        for log in logs:
            log.addHandler(ear)
        # Runs that exist nowhere: the folder in which the tests are started is not a test's.
        serving = Serving(model, **{"runs": temporary / "no runs", "port": port, **options})
        server = uvicorn.Server(config(make(serving), log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        try:
            thread.start()
            assert until(lambda: server.started or not thread.is_alive()) and server.started, said
            headers = {} if serving.token is None else {"authorization": f"Bearer {serving.token}"}
            until(lambda: not workers())  # It has warmed itself.
            yield Server(Client(port, headers), model, temporary, said)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            for log in logs:
                log.removeHandler(ear)
            tempfile.tempdir = before
        assert not thread.is_alive()
        assert not list(temporary.glob(f"{PREFIX}*"))


def workers() -> list[psutil.Process]:
    """The processes that work for this one now: children of the process from which they are forked."""
    root = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    try:
        return [] if root is None else [p for p in psutil.Process(root).children() if p.status() != "zombie"]
    except psutil.NoSuchProcess:
        return []


def everything(model: Path) -> dict[str, bytes]:
    """The files that are the model, its versions and pictures too, by name."""
    found = {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != ".lock"}


def again(file: Path, to: Path, number: int = 0) -> Path:
    """The same film, in other bytes: to a model it is another clip that looks and sounds alike."""
    padding = number.to_bytes(4, "big")
    to.mkdir(parents=True, exist_ok=True)
    copy = to / f"{file.stem}-{number}{file.suffix}"
    shutil.copyfile(file, copy)
    with copy.open("ab") as out:
        out.write((8 + len(padding)).to_bytes(4, "big") + b"free" + padding)
    return copy
