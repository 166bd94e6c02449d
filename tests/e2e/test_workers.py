"""Runs side by side, as a user starts and stops them: the result, Ctrl-C, a worker that is killed, a parent that is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from commands import heed_ctrl_c
from patience import until

LONG = ("--l3.train.epochs", "100000")  # Hours: it never ends by itself.


def command(clips: Path, store: Path, out: Path, *more: str) -> list[str]:
    words = ["bench", clips, "--store", store, "--out", out, "--sessions", "2", "--seeds", "2", "--workers", "2", *more]
    return [sys.executable, "-c", "from harkback.cli import main; main()", *map(str, words)]


@pytest.fixture
def running(clips: Path, store: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A bench of which two processes are learning now."""
    words = command(clips, store, tmp_path / "out", "--learners", "ncm,l3", *LONG)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, **pipes, preexec_fn=heed_ctrl_c)
    try:
        assert until(lambda: len(list((tmp_path / "out" / "runs").glob("ncm-*/session-01.json"))) == 2)
        time.sleep(1.0)  # Both are at l3, whose first session never ends.
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_the_same_command_goes_on(
    running: subprocess.Popen[str], clips: Path, store: Path, tmp_path: Path
) -> None:
    children = descendants(running)
    assert len(children) >= 3  # The server, and two that learn.
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 2
    assert out == ""
    assert "Traceback" not in err
    assert err.rstrip().splitlines()[-1].split("\r")[-1].startswith("harkback: stopped; what was finished is kept")
    assert until(lambda: gone(children), 20)
    again = command(clips, store, tmp_path / "out", "--learners", "ncm", "--json")
    rows = json.loads(subprocess.run(again, capture_output=True, text=True, check=True, timeout=120).stdout)["rows"]
    assert [(row["learner"], row["runs"]) for row in rows] == [("ncm", 2)]


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_bench_with_a_line(running: subprocess.Popen[str]) -> None:
    children = descendants(running)
    forked = [child for child in children if child.ppid() != running.pid]  # The other is what they are forked from.
    max(forked, key=lambda child: sum(child.cpu_times()[:2])).kill()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 2
    assert out == ""
    assert "Traceback" not in err
    line = err.rstrip().splitlines()[-1].split("\r")[-1]
    assert "ended from outside" in line
    assert "--workers 1" in line
    assert until(lambda: gone(children), 20)


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(running: subprocess.Popen[str]) -> None:
    children = descendants(running)
    os.kill(running.pid, signal.SIGKILL)
    assert until(lambda: gone(children), 20)
