"""What a server costs: `python -m benchmarks.app [--requests 40]`.

Clips of 2 s are asked of `harkback app`, a process of its own, by 1, 4 and 16 clients side by side, each of which sends
its next clip when it has the answer; the same clips of `Model.predict` in this process, before and after. What is
compared are ratios within the run. Then the memory of the server alone and with the processes that it forks from,
before and after all that, when nothing works.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # As the command line does, before torch is loaded.

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import quantiles

import psutil

from benchmarks.report import tables
from harkback.datasets.demo import Demo
from harkback.model import Model
from harkback.teaching import teach

CLIENTS = (1, 4, 16)
BOUNDARY = "a-boundary-that-no-clip-holds"
SETTLED = 1.0  #: seconds after the last answer until memory is looked at


@contextmanager
def server(model: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Its port and its process."""
    argv = [str(Path(sys.executable).with_name("harkback")), "app", str(model), "--port", "0", "--no-browser"]
    with psutil.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            yield int(line.rstrip().rstrip("/").rpartition(":")[2]), psutil.Process(process.pid)
        finally:
            process.terminate()


def ask(port: int, content: bytes) -> None:
    about = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="clip.mp4"\r\n\r\n'
    body = about.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    connection = HTTPConnection("127.0.0.1", port)
    try:
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        connection.request("POST", "/predict", body, {"content-type": kind})
        answer = connection.getresponse()
        said = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != 200:
        raise SystemExit(f"the server refused a clip: {said}")


def paced(work: Callable[[int], object], requests: int, clients: int) -> dict[str, float]:
    """How long each took, and all."""

    def timed(number: int) -> float:
        began = time.perf_counter()
        work(number)
        return time.perf_counter() - began

    with ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        taken = list(pool.map(timed, range(requests)))
        wall = time.perf_counter() - began
    cuts = quantiles(taken, n=100, method="inclusive")
    return {"requests_a_second": requests / wall, "p50_seconds": cuts[49], "p99_seconds": cuts[98]}


def held(process: psutil.Process) -> dict[str, float]:
    """MB (10^6 bytes); what processes share counts for each of them."""
    time.sleep(SETTLED)
    family = process.children(recursive=True)
    alone = process.memory_info().rss / 1e6
    return {"server": alone, "with_children": alone + sum(each.memory_info().rss for each in family) / 1e6}


def measure(requests: int = 40) -> dict[str, dict[str, float]]:
    """requests: of one client; several ask twice as many together."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = [clip.path for clip in Demo(folder / "clips", classes=4, train=8, test=5).splits["test"]]
        (folder / "clips" / "demo.json").unlink()
        teach(folder / "rover", folder / "clips", workers=None)
        contents = [path.read_bytes() for path in clips]
        model = Model(folder / "rover")
        model.predict(clips[0])

        def inside() -> dict[str, float]:
            return paced(lambda number: model.predict(clips[number % len(clips)]), requests, 1)

        with server(folder / "rover") as (port, process):

            def outside(count: int, clients: int) -> dict[str, float]:
                return paced(lambda number: ask(port, contents[number % len(contents)]), count, clients)

            outside(2 * max(CLIENTS), max(CLIENTS))  # Warm, and as large as it becomes.
            before, first = held(process), inside()
            over = {clients: outside(requests * (1 if clients == 1 else 2), clients) for clients in CLIENTS}
            last, after = inside(), held(process)
        own = {figure: (first[figure] + last[figure]) / 2 for figure in first}
        found = {"`Model.predict` in a process": own}
        for clients, figures in over.items():
            times = {
                "times_the_wait_in_process": figures["p50_seconds"] / own["p50_seconds"],
                "times_the_work_in_process": own["requests_a_second"] / figures["requests_a_second"],
            }
            found[f"`/predict`, {clients} at once"] = {**figures, **times}
        for whose in before:
            found[f"memory, {whose.replace('_', ' ')}"] = {
                "mb_before": before[whose],
                "mb_after": after[whose],
                "times_memory_before": after[whose] / before[whose],
            }
        return found


def main(words: Sequence[str] | None = None) -> None:
    take = argparse.ArgumentParser()
    take.add_argument("--requests", type=int, default=40, help="of one client; several ask twice as many together")
    print("\n\n".join(tables(measure(take.parse_args(words).requests))))


if __name__ == "__main__":
    main()
