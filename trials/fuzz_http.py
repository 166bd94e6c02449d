"""Spoiled requests, byte by byte, to a server of the app on the loopback: it must answer or close, and live on."""

from __future__ import annotations

import random
import re
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from app_client import Client, form, parts, served, until
from fakes import tone
from harkback.model import Model
from harkback.teaching import Making, teach
from trials.fuzz_bytes import spoiled

PATIENCE = 60.0  #: seconds in which a request that has come to its end must be answered, or its line closed
CROWD = 16  #: requests at once
ANSWER = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
USUAL = "Invalid HTTP request received."  #: what uvicorn writes into its log


def seeds(clip: Path, host: str) -> list[bytes]:
    """A request of each kind, as it should be."""
    head = f"host: {host}\r\nconnection: close\r\n"
    found = [
        f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
        for path in ("/health", "/model", "/knows", f"/examples/{'0' * 64}")
    ]
    for path, words in (("/undo", b'{"version": 1}'), ("/forget", b'{"name": "high", "version": 1}')):
        kind = f"content-type: application/json\r\ncontent-length: {len(words)}\r\n"
        found.append(f"POST {path} HTTP/1.1\r\n{head}{kind}\r\n".encode() + words)
    lesson = [*parts(clip, field="files", label="new", dry_run="true")]
    for path, told in (("/predict", parts(clip, window=1)), ("/teach", lesson)):
        body, kind = form(told)
        about = f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        found.append(f"POST {path} HTTP/1.1\r\n{head}{about}\r\n".encode() + body)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i : i + 99]), body[i : i + 99]) for i in range(0, len(body), 99))
    about = f"content-type: {kind}\r\ntransfer-encoding: chunked\r\n"
    return [*found, f"POST /teach HTTP/1.1\r\n{head}{about}\r\n".encode() + chunks + b"0\r\n\r\n"]


def timed(client: Client, request: bytes) -> tuple[bytes, float]:
    """What is answered, and after how many seconds its line is closed."""
    began, said = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE) as line:
        try:
            line.sendall(request)
            while piece := line.recv(1 << 16):
                said += piece
        except ConnectionError:
            pass
        except TimeoutError:
            said = b"neither answered nor closed"
    return said, time.monotonic() - began


def campaign(requests: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """How so many were answered, and the names of those that broke something: they stay in ``folder``."""
    some, tally, broke, slowest = random.Random(f"{seed} http"), Counter[str](), list[str](), 0.0
    folder.mkdir(parents=True, exist_ok=True)
    for pitch, name in ((200, "low"), (1500, "high")):
        for i in range(4):
            tone(folder / "tones" / name / f"{i}.wav", pitch + 9 * i, seconds=0.2)
    model = folder / "model"
    teach(model, folder / "tones", making=Making(learner="ncm", memory=8))
    clip = tone(folder / "new.wav", 800, seconds=0.1)
    with served(model, folder / "temporary") as server:
        whole = seeds(clip, f"127.0.0.1:{server.client.port}")
        for request in whole:  # They are what they seem.
            answer, _ = timed(server.client, request)
            assert ANSWER.match(answer) and answer[9:10] in b"24", answer
        began = psutil.Process().memory_info().rss
        made = [spoiled(some.choice(whole), some, whole) for _ in range(requests)]
        with ThreadPoolExecutor(CROWD) as crowd:  # Of those that promise more than they send, each is waited for.
            answers = list(crowd.map(partial(timed, server.client), made))
        for number, (answer, took) in enumerate(answers):
            status = ANSWER.match(answer)
            outcome = status[1].decode() if status else "closed" if not answer else "no HTTP"
            tally[outcome] += 1
            slowest = max(slowest, took)
            if outcome in ("500", "no HTTP"):
                (folder / f"{seed}-{number:05d}.http").write_bytes(made[number])
                broke.append(f"{seed}-{number:05d}.http: {answer[:200]!r}")
        until(lambda: server.client.get("/health").json["waiting"] == 0)
        grown = psutil.Process().memory_info().rss - began
        said = [line for line in server.said if USUAL not in line]
        broke += [f"the server says: {line[-600:]}" for line in said[:5]]
        if server.client.get("/health").status != 200 or not Model(model).facts:
            broke.append("the server, or its model, is not what it was")
    print(f"  http: the slowest took {slowest:.1f} s, memory grew by {grown >> 20} MiB")
    return tally, broke
