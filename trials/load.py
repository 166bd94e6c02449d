"""The app under load while it is taught: `python -m trials.load [--minutes 10] [--clients 6] [--out load.json]`.

A server, a process of its own, on the loopback. Clients ask it clips, broken ones too, and its pages, without a pause;
one more teaches, weighs and leaves lessons, undoes and forgets all the while. Any answer but the expected one is an
error. Seconds until an answer are given by kind of request, and memory over time: of the server and of all that it has
started. Needs the extra "app", and psutil.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # As the command line does, before torch is loaded.

import argparse
import json
import random
import secrets
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
from tqdm import tqdm

from harkback.datasets.demo import Demo
from harkback.model import Model
from harkback.teaching import Making, teach

PATIENCE = 120.0  #: seconds that an answer may take
EVERY = 2.0  #: seconds between two looks at the memory
FLAT = 0.05  #: share by which the server's memory may grow from the second quarter of the time to the last
EXPECTED = ("open ", "stop it with", "encoding:")  #: what the server may say
BUSY = ("waiting", "reading", "learning", "writing")
Part = tuple[str, str | None, bytes]  #: of a form: name, file name, content


@dataclass(slots=True)
class Ledger:
    """What all clients saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def note(self, kind: str, seconds: float, error: str | None) -> None:
        with self.lock:
            self.seconds[kind].append(seconds)
            if error is not None:
                self.errors.append(f"{kind}: {error}")


@dataclass(frozen=True, slots=True)
class Client:
    port: int
    ledger: Ledger

    def ask(
        self, kind: str, method: str, path: str, *, form: Sequence[Part] = (), words: Any = None, status: int = 200
    ) -> Any:
        """The answer's JSON, or its bytes. How long it took is noted, and whether it had another status."""
        body, headers = None, {}
        if form:
            body, headers["content-type"] = _multipart(form)
        elif words is not None:
            body, headers["content-type"] = json.dumps(words).encode(), "application/json"
        began, error, said = time.perf_counter(), None, b""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != status:
                error = f"{answer.status} instead of {status}: {said[:200]!r}"
        except (OSError, HTTPException) as failure:
            error = f"{type(failure).__name__}: {failure}"
        finally:
            connection.close()
        self.ledger.note(kind, time.perf_counter() - began, error)
        return json.loads(said) if error is None and said[:1] in (b"{", b"[") else said

    def lesson(self, label: str, clips: Sequence[Path], *, dry_run: bool) -> dict[str, Any]:
        """A lesson, as it is when it ends or waits for a decision."""
        form: list[Part] = [("label", None, label.encode()), ("dry_run", None, b"true" if dry_run else b"false")]
        form += [("force", None, b"true"), *(("files", clip.name, clip.read_bytes()) for clip in clips)]
        word = self.ask("teach", "POST", "/teach", form=form, status=202)
        while isinstance(word, dict) and word["state"] in BUSY:
            time.sleep(0.1)
            word = self.ask("lesson", "GET", f"/lessons/{word['id']}")
        return word if isinstance(word, dict) else {"state": "lost", "error": repr(word)}


def _multipart(parts: Sequence[Part]) -> tuple[bytes, str]:
    boundary, body = secrets.token_hex(16), b""
    for name, file, content in parts:
        about = f'form-data; name="{name}"' + ("" if file is None else f'; filename="{file}"')
        body += f"--{boundary}\r\ncontent-disposition: {about}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def asking(client: Client, clips: Sequence[bytes], seed: int, end: float) -> None:
    """Ask clips and pages as they come, until the time is over."""
    draw = random.Random(seed)
    while time.monotonic() < end:
        clip = draw.choice(clips)
        match draw.randrange(10):
            case 0:
                client.ask("health", "GET", "/health")
            case 1:
                client.ask("model", "GET", "/model")
            case 2:
                client.ask("page", "GET", "/")
            case 3:
                client.ask("knows", "GET", "/knows")
            case 4:
                broken = clip[: draw.randrange(1, 100)]
                client.ask("predict, broken", "POST", "/predict", form=[("file", "clip.mp4", broken)], status=422)
            case _:
                found = client.ask("predict", "POST", "/predict", form=[("file", "clip.mp4", clip)])
                if isinstance(found, dict) and not found["answers"]:
                    client.ledger.note("predict", 0.0, f"no answer in {found}")


def teaching(client: Client, clips: dict[str, list[Path]], end: float) -> int:
    """Teach, undo, teach again, forget, weigh and leave; returns how many lessons were taught."""
    done = 0
    while time.monotonic() < end:
        for name, paths in clips.items():
            found = client.lesson(name, paths, dry_run=False)
            client.ledger.note("lesson, whole", 0.0, None if found["state"] == "done" else f"{name}: {found}")
            done += found["state"] == "done"
            client.ask("undo", "POST", "/undo", words={})
            weighed = client.lesson(name, paths, dry_run=True)
            if weighed["state"] != "asking":
                client.ledger.note("lesson, weighed", 0.0, f"{name}: {weighed}")
            elif done % 2:
                client.ask("leave", "DELETE", f"/lessons/{weighed['id']}")
            else:
                client.ask("commit", "POST", f"/lessons/{weighed['id']}/commit", words={"force": True}, status=202)
                word = weighed
                while word["state"] not in ("done", "failed", "discarded"):
                    time.sleep(0.1)
                    word = client.ask("lesson", "GET", f"/lessons/{weighed['id']}")
                client.ledger.note("lesson, decided", 0.0, None if word["state"] == "done" else f"{name}: {word}")
                done += word["state"] == "done"
                client.ask("forget", "POST", "/forget", words={"name": name})
            if time.monotonic() >= end:
                break
    return done


@contextmanager
def server(model: Path, errors: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Its port and its process; what it says goes to a file."""
    argv = [sys.executable, "-m", "harkback", "app", str(model), "--port", "0", "--no-browser"]
    with errors.open("w") as said, psutil.Popen(argv, stderr=said, stdout=said) as process:
        try:
            while not (first := errors.read_text().partition("\n")[0]).startswith("open "):
                if process.poll() is not None:
                    raise SystemExit(f"the server did not start: {errors.read_text()}")
                time.sleep(0.1)
            yield int(first.rstrip("/").rpartition(":")[2]), psutil.Process(process.pid)
        finally:
            process.terminate()


def memory(process: psutil.Process, end: float) -> list[tuple[float, float, int, int]]:
    """(MB of the server, MB of its whole family, open files, threads) as time goes by; 10^6 bytes."""
    found = []
    bar = tqdm(total=round(end - time.monotonic()), desc="load", unit="s")
    while time.monotonic() < end:
        family = 0.0
        for each in process.children(recursive=True):
            try:
                family += each.memory_info().rss / 1e6
            except psutil.NoSuchProcess:
                continue
        own = process.memory_info().rss / 1e6
        found.append((own, own + family, process.num_fds(), process.num_threads()))
        time.sleep(EVERY)
        bar.update(round(EVERY))
    bar.close()
    return found


def measure(minutes: float, clients: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        demo = Demo(root / "clips", classes=4, train=6, test=3)
        asked = [clip.path.read_bytes() for clip in demo.splits["test"]]
        by_class: dict[str, list[Path]] = defaultdict(list)
        for clip in demo.splits["train"]:
            by_class[clip.label].append(clip.path)
        first, *others = by_class
        (root / "clips" / "demo.json").unlink()
        base = root / "base"
        base.mkdir()
        for label in (first, others[0]):
            (base / label).mkdir()
            for path in by_class[label]:
                (base / label / path.name).write_bytes(path.read_bytes())
        teach(root / "rover", base, making=Making(history=5))
        ledger, errors = Ledger(), root / "said"
        with server(root / "rover", errors) as (port, process):
            client = Client(port, ledger)
            end = time.monotonic() + 60 * minutes
            lessons: list[int] = []
            to_come = {label: by_class[label] for label in others[1:]}
            threads = [threading.Thread(target=asking, args=(client, asked, seed, end)) for seed in range(clients)]
            threads.append(threading.Thread(target=lambda: lessons.append(teaching(client, to_come, end))))
            for thread in threads:
                thread.start()
            seen = memory(process, end)
            for thread in threads:
                thread.join()
        said = errors.read_text().splitlines()
        unexpected = [line for line in said if line.strip() and not line.startswith(EXPECTED)]
        known = Model(root / "rover").classes
        if set(known) != {first, others[0]}:
            unexpected.append(f"the model knows {known}")
    quarter = len(seen) // 4
    owned = [median(each[0] for each in seen[k * quarter : (k + 1) * quarter]) for k in range(4)]
    cuts = {kind: quantiles(taken, n=100, method="inclusive") for kind, taken in ledger.seconds.items() if taken[1:]}
    return {
        "minutes": minutes,
        "clients": clients,
        "lessons taught": sum(lessons),
        "requests": sum(len(taken) for kind, taken in ledger.seconds.items() if not kind.startswith("lesson, ")),
        "errors": ledger.errors,
        "said": unexpected,
        "seconds": {
            kind: {"count": len(ledger.seconds[kind]), "p50": cut[49], "p99": cut[98]}
            for kind, cut in sorted(cuts.items())
            if not kind.startswith("lesson, ")
        },
        "server MB": {"by quarter": owned, "most": max(each[0] for each in seen)},
        "family MB": {"most": max(each[1] for each in seen)},
        "open files": {"first": seen[0][2], "last": seen[-1][2]},
        "threads": {"first": seen[0][3], "last": seen[-1][3]},
        "flat": owned[3] <= (1 + FLAT) * owned[1],
    }


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--minutes", type=float, default=10.0)
    words.add_argument("--clients", type=int, default=6)
    words.add_argument("--out", type=Path, help="write what was found as JSON")
    asked = words.parse_args()
    found = measure(asked.minutes, asked.clients)
    print(json.dumps(found, indent=1))
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if found["errors"] or found["said"] or not found["flat"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
