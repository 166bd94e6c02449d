"""Whoever begins a request goes on with it, or is cut off; and what fails behind the guard is answered as safely."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from uvicorn.server import ServerState

from app_client import Server, served
from harkback.app import prompt
from harkback.app.guard import HEADERS
from harkback.app.held import Held


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(prompt, "HEADERS", 0.5)
    with served(tmp_path / "nothing yet", tmp_path / "temporary") as found:
        yield found


def until_closed(line: socket.socket) -> None:
    line.settimeout(20)
    while line.recv(1 << 16):
        pass


def test_headers_must_come_to_their_end(server: Server) -> None:
    whole = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    for begun in (b"", b"G", whole[:-2]):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.client.port)) as line:
            line.sendall(begun)
            until_closed(line)
            assert 0.4 < time.monotonic() - began < 15, begun
    with socket.create_connection(("127.0.0.1", server.client.port)) as line:  # A letter at a time is no help.
        line.settimeout(20)
        began = time.monotonic()
        try:
            while time.monotonic() - began < 15:
                line.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - began < 15


def test_so_must_those_of_the_second_request_on_a_line(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.client.port)) as line:
        line.settimeout(20)
        for _ in range(3):  # As long as they are whole, they may take as long as they like together.
            line.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            said = b""
            while not said.endswith(b"}"):  # Headers and body may come apart.
                said += line.recv(1 << 16)
            assert said.startswith(b"HTTP/1.1 200 ")
            time.sleep(0.3)
        line.sendall(b"GET /hea")
        began = time.monotonic()
        until_closed(line)
        assert time.monotonic() - began < 15
    assert server.client.get("/health").status == 200


def test_a_defect_is_answered_with_the_headers_of_all_answers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("of all things")

    monkeypatch.setattr(Held, "facts", breaks)
    line = http.client.HTTPConnection("127.0.0.1", server.client.port, timeout=20)
    line.request("GET", "/model", headers={"host": "localhost"})
    said = line.getresponse()
    assert said.status == 500 and b"RuntimeError; please report it" in said.read()
    assert {name: said.getheader(name) for name in HEADERS} == HEADERS
    line.close()


class Line(asyncio.Transport):
    """What is written is noted, and nobody is told that it is closed: that comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.said, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.said += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


BEGUN: Any = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}


@pytest.mark.parametrize("before", [0, 1, 2, 3], ids=["nothing", "its headers", "half of it", "all of it"])
def test_a_body_that_is_no_http_is_answered_once(before: int, caplog: pytest.LogCaptureFixture) -> None:
    """before: how much the app has said when the bad bytes come; the rest it says before it knows the line is gone."""
    words = [BEGUN, {"type": "http.response.body", "body": b"o", "more_body": True},
             {"type": "http.response.body", "body": b"k"}]  # fmt: skip

    async def talk() -> Line:
        go_on, line = asyncio.Event(), Line()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            for number, word in enumerate(words):
                if number == before:
                    await go_on.wait()
                await send(word)

        protocol = prompt.Prompt(prompt.config(app, log_config=None), ServerState(), {})
        protocol.connection_made(line)
        protocol.data_received(b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        await asyncio.sleep(0.05)
        protocol.data_received(b"no number\r\n")
        go_on.set()
        await asyncio.sleep(0.05)
        assert line.closed
        protocol.connection_lost(None)
        return line

    line = asyncio.run(talk())
    assert line.said.count(b"HTTP/1.1 ") == 1
    assert line.said.startswith(b"HTTP/1.1 200" if before else b"HTTP/1.1 400")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
