"""Kills at drawn moments, a few of what `python -m trials.kills` makes by the hundred; and that it would notice.

Changes of a model are killed at every step in test_model_kills.py, benches between their files in test_log_bench.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

from trials.killing import Found, trial  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@pytest.mark.slow
def test_extractions_go_on_as_if_they_had_not_been_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "trials.kills", "--kills", "8", "--seed", "7", "--command", "extract"]
    done = subprocess.run(
        [*argv, "--out", tmp_path / "counts.json"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    told = json.loads((tmp_path / "counts.json").read_text())
    assert [each["wrong"] for each in told] == [[]] * len(told) and done.returncode == 0, done.stderr[-2000:]
    names = [each["command"] for each in told]
    assert names == ["extract", "extract, going on"]
    for each in told:
        assert each["inside"] == each["equal"] == each["old"] + each["between"] + each["new"] == 8


class Torn:
    """A command that changes two files, one after the other."""

    name, steps, learnt = "torn", False, ""

    def put(self, folder: Path) -> None:
        for name in "ab":
            (folder / name).write_text("old")

    def run(self, folder: Path) -> None:
        for name in "ab":
            time.sleep(0.03)
            (folder / name).write_text("new")

    def found(self, folder: Path) -> Found:
        return {name: (folder / name).read_text() for name in "ab"}

    rest = found

    def names(self, folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()}


class Whole(Torn):
    """It changes one of them, in one step."""

    def run(self, folder: Path) -> None:
        time.sleep(0.03)
        (folder / "beside.part").write_text("new")
        (folder / "beside.part").replace(folder / "a")
        time.sleep(0.03)


class Littering(Whole):
    def run(self, folder: Path) -> None:
        (folder / str(time.monotonic_ns())).touch()
        super().run(folder)


def test_a_change_that_is_torn_is_noticed(tmp_path: Path) -> None:
    tally = trial(Torn(), tmp_path / "torn", 10, seed=1)
    assert tally.inside == 10 and any("neither the old state nor the new one" in line for line in tally.wrong)


def test_what_a_kill_leaves_lying_about_is_noticed(tmp_path: Path) -> None:
    tally = trial(Littering(), tmp_path / "litter", 6, seed=1)
    assert any("of the killed one there is" in line for line in tally.wrong)


def test_kills_of_a_change_that_is_whole_are_counted(tmp_path: Path) -> None:
    tally = trial(Whole(), tmp_path / "whole", 6, seed=2)
    assert (tally.inside, tally.equal, tally.wrong) == (6, 6, [])
    assert tally.old + tally.new == 6 <= tally.kills
