"""No network unless asked: whatever asks for a socket of the internet's is killed by the kernel, and nothing is."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from no_network import SOCKET

HERE = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SOCKET, reason="the kernel is not asked as on Linux"
)

#: What a person does, command by command. Decoders are processes of their own.
FLOW = """
import sys
from harkback.cli import main

if __name__ == "__main__":
    clips, store = "clips", ["--store", "store"]
    main(["extract", clips, *store, "--workers", "1"])
    main(["bench", clips, *store, "--learners", "ncm", "--sessions", "2", "--seeds", "1", "--workers", "0"])
    main(["report", "harkback-runs/clips"])
    main(["teach", "rover", clips, *store, "--learner", "ridge", "--memory", "8"])
    main(["predict", "rover", sys.argv[1], "--json"])
    main(["inspect", "rover"])
    main(["forget", "rover", "siren"])
"""


def run(script: str, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    told = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(HERE / "no_network.py"), "script.py", *argv]
    return subprocess.run(
        command, cwd=folder, env=os.environ | told, capture_output=True, text=True, timeout=120, check=False
    )


def test_extract_bench_report_teach_and_predict_contact_nobody(clips: Path, tmp_path: Path) -> None:
    clips.rename(tmp_path / "clips")
    asked = min((tmp_path / "clips" / "test").rglob("*.mp4"))
    done = run(FLOW, tmp_path, str(asked))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "harkback-runs" / "clips" / "report.html").exists()
    bench = json.loads((tmp_path / "harkback-runs" / "clips" / "bench.json").read_text())
    assert bench["skips"] == []  # Nor was a decoder killed, whose clip would be left out.


@pytest.mark.parametrize(
    "contact",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('nobody.invalid', 9)",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
        "import av; av.open('http://127.0.0.1:9/')",  # by FFmpeg, unseen by Python
        "import subprocess, sys; sys.exit(-subprocess.run([sys.executable, '-c', 'import socket; socket.socket()'])."
        "returncode)",
    ],
    ids=["connect", "look-up", "urllib", "ffmpeg", "child"],
)
def test_whoever_contacts_somebody_is_killed(contact: str, tmp_path: Path) -> None:
    assert abs(run(contact, tmp_path).returncode) == signal.SIGSYS


def test_sockets_between_processes_are_let_be(tmp_path: Path) -> None:
    assert run("import socket; socket.socketpair(); socket.socket(socket.AF_UNIX)", tmp_path).returncode == 0
