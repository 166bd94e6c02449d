"""Ctrl-C, which a terminal sends to a command and to all processes beside it, at moments when something loads."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import misdeeds
from commands import failure, heed_ctrl_c
from harkback.cli import main
from harkback.commands import COMMANDS
from harkback.interrupt import undisturbed
from harkback.team import team
from patience import until

EARLY = "from harkback.workers import context; context(())"
TEAM = "from harkback.team import team\nwith team(1, {preload}) as pool: assert pool.submit(abs, -1).result() == 1"
CONFINED = "from harkback import confined\nconfined.PRELOAD = {preload}\n"
CONFINED += "with confined.Confined(print, limits=confined.Limits()): pass"


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Tests that run in the background of a shell were told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform != "linux", reason="it is seen in Linux's /proc")
@pytest.mark.parametrize("start", [EARLY, TEAM, CONFINED], ids=["early", "a team", "one that is confined"])
def test_it_does_not_reach_what_others_are_forked_from(start: str) -> None:
    """Else that would show, while it loads, a traceback."""
    script = (
        f"import signal\nfrom multiprocessing import forkserver\n{start.format(preload=())}\n"
        "server = forkserver._forkserver._forkserver_pid\n"
        "print(server, signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
        "print(open(f'/proc/{server}/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)$", done.stdout, re.MULTILINE)
    assert blocked is not None and int(blocked[1], 16) >> (signal.SIGINT - 1) & 1
    assert done.stdout.splitlines()[0].endswith("set()")  # Here it still does.


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes may be begun in another way")
@pytest.mark.parametrize("start", [TEAM, CONFINED], ids=["a team", "one that is confined"])
def test_a_process_that_waits_to_be_forked_does_not_begin_when_its_parent_has_gone(tmp_path: Path, start: str) -> None:
    slow = f"import time\nopen({str(tmp_path / 'loads')!r}, 'w').close()\ntime.sleep(3)\n"
    (tmp_path / "slow_to_load.py").write_text(slow)
    script = (
        f"try:\n  exec({start.format(preload=('slow_to_load',))!r})\nexcept KeyboardInterrupt:\n  print('stopped')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as process:
        while not (tmp_path / "loads").exists():
            time.sleep(0.05)
        time.sleep(0.3)  # It has asked for a process meanwhile, and waits.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)  # It ends when nobody can write to it any more.
    assert (out, err) == ("stopped\n", "")


@pytest.mark.parametrize("count", [1, 2])
def test_a_process_that_is_stopped_in_the_middle_of_an_answer_keeps_nobody(tmp_path: Path, count: int) -> None:
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), team(count, ()) as pool:
        pool.submit(misdeeds.begins_an_answer, False, tmp_path / "begun")
        assert until((tmp_path / "begun").exists)
        raise KeyboardInterrupt
    assert until(lambda: not set(threading.enumerate()) - before), threading.enumerate()


def test_it_waits_until_a_process_is_begun() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), undisturbed():
        signal.raise_signal(signal.SIGINT)
        done.append("all of it")
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with undisturbed():
        pass


def test_other_threads_begin_processes_as_they_are() -> None:
    seen: list[Any] = []

    def begin() -> None:
        with undisturbed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_what_is_imported_is_there_before_it_interrupts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some libraries would swallow it, as this one does, others make any error of it."""
    (tmp_path / "half_loaded.py").write_text(
        "import signal, time\ntry:\n  signal.raise_signal(signal.SIGINT)\n  time.sleep(0.3)\n  whole = True\n"
        "except KeyboardInterrupt:\n  pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    done: list[str] = []

    def run(_: Any) -> None:
        assert importlib.import_module("half_loaded").whole
        time.sleep(5)
        done.append("all")

    monkeypatch.setattr(COMMANDS["doctor"], "run", run)
    assert failure(capsys, "doctor").startswith("harkback: stopped; what was finished is kept")
    assert not done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_finalizer_does_not_swallow_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Pressed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    done: list[str] = []

    def run(_: Any) -> None:
        Pressed()
        time.sleep(5)
        done.append("all")

    monkeypatch.setattr(COMMANDS["doctor"], "run", run)
    hook = sys.unraisablehook
    assert failure(capsys, "doctor").startswith("harkback: stopped; what was finished is kept")
    assert not done and sys.unraisablehook is hook


def test_what_is_not_imported_is_interrupted_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def run(_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("all")

    monkeypatch.setattr(COMMANDS["doctor"], "run", run)
    assert failure(capsys, "doctor").startswith("harkback: stopped")
    assert not done


def test_a_command_that_a_module_runs_as_it_is_imported_is_interrupted_too(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(
        "import signal\nfrom harkback import cli\nfrom harkback.commands import COMMANDS\n"
        "COMMANDS['doctor'].run = lambda _: signal.raise_signal(signal.SIGINT)\ncli.main(['doctor'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import theirs"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, preexec_fn=heed_ctrl_c,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("harkback: stopped")


def test_whoever_answers_it_elsewhere_keeps_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[int] = []
    monkeypatch.setattr(COMMANDS["doctor"], "run", lambda _: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        main(["doctor"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT] and capsys.readouterr().err == ""
