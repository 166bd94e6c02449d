"""Fifty spoken digits asked at once, of a server in a process of its own; and its memory before and after."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from app_client import Client
from harkback.model import Model
from harkback.teaching import Making, teach
from patience import until

DIGITS = Path(__file__).parents[3] / "shared" / "data" / "spoken-digits"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DIGITS.exists(), reason="SPOKEN DIGITS ARE NOT HERE: fifty of them are not asked at once"),
]
AT_ONCE = 50


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "rover"
    teach(path, DIGITS, classes=("zero", "one", "two"), making=Making(memory=60), workers=2)
    return path


@pytest.fixture
def server(model: Path) -> Iterator[tuple[Client, psutil.Process]]:
    argv = [sys.executable, "-c", "from harkback.cli import main; main()", "app", str(model)]
    with psutil.Popen([*argv, "--port", "0", "--no-browser"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rstrip().rstrip("/").rpartition(":")[2])
        yield Client(port), psutil.Process(process.pid)
        process.terminate()


def test_fifty_at_once(model: Path, server: tuple[Client, psutil.Process]) -> None:
    client, process = server
    clips = sorted((DIGITS / "test").glob("*/*.mp4"))
    clips = clips[:: len(clips) // AT_ONCE][:AT_ONCE]

    def rest() -> list[float]:
        """MB of the server, and of it with the processes it forks from, when nothing works."""
        settled = until(lambda: sum(each.num_threads() > 0 for each in process.children(recursive=True)) <= 2)
        assert settled
        family = [process, *process.children(recursive=True)]
        return [process.memory_info().rss / 1e6, sum(each.memory_info().rss for each in family) / 1e6]

    asked = Model(model)
    expected = [asked.predict(clip, merge=False) for clip in clips]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert {said.status for said in pool.map(client.predict, clips)} == {200}  # It is as large as it becomes.
        before = rest()
        found = list(pool.map(client.predict, clips))
        after = rest()
    assert [said.status for said in found] == [200] * AT_ONCE
    for said, answers in zip(found, expected, strict=True):
        assert [each["confidence"] for each in said.json["answers"]] == [round(a.confidence, 6) for a in answers]
        assert [each["label"] for each in said.json["answers"]] == [a.label for a in answers]
    print(f"MB before and after: {before}, {after}")
    assert all(later <= 1.1 * earlier for earlier, later in zip(before, after, strict=True))
