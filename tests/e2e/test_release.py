"""A release is the same bytes whoever builds it, and holds all that is tracked: `python -m trials.release`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="this is no clone of git")
def test_two_builds_of_a_commit_are_the_same_bytes() -> None:
    argv = [sys.executable, "-m", "trials.release"]
    done = subprocess.run(
        argv, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert ".whl" in done.stdout and ".tar.gz" in done.stdout and "nothing else" in done.stdout
