"""A command run as the shell would, and what it said."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from harkback.cli import main


def failure(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    """The one line that a failing command prints last; it must leave with status 2 and print no result."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in argv])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err and said.out == ""
    line = said.err.rstrip("\n").splitlines()[-1].split("\r")[-1]
    assert line.startswith("harkback: ")
    return line


def result(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> dict[str, Any]:
    main([*(str(word) for word in argv), "--json"])
    return json.loads(capsys.readouterr().out)


def heed_ctrl_c() -> None:
    """For a process about to start: tests that run in the background of a shell were told to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
