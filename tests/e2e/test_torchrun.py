"""`torchrun` around a whole bench: what two processes find is what one finds, and one of them writes and talks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harkback.log import Run

pytestmark = pytest.mark.slow
LEARNERS = ("l3", "avcil", "ridge", "hark")
SHORT = [f"--{name}.train.epochs=3" for name in ("l3", "avcil")] + ["--l3.network.width", "16"]


def command(processes: int, *words: str | Path) -> list[str]:
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-addr", "127.0.0.1"]
        start += ["--master-port", "29513", "-m"]
    return [*start, "harkback", *map(str, words)]


def run(processes: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(processes, *words), capture_output=True, text=True, timeout=300)


def test_a_bench_of_two_processes_is_that_of_one(drawn: Path, tmp_path: Path) -> None:
    words = ["bench", drawn, "--learners", ",".join(LEARNERS), "--sessions", "2", "--seeds", "1", "--memory", "6"]
    words += [*SHORT, "--json", "--out"]
    one, two = run(1, *words, tmp_path / "one", "--workers", "0"), run(2, *words, tmp_path / "two")
    assert one.returncode == two.returncode == 0, two.stderr
    assert len(two.stdout.splitlines()) == 1 and two.stderr.count("report.json") == 1  # One of them talks.
    assert accuracies(json.loads(one.stdout)) == accuracies(json.loads(two.stdout))
    found, expected = (runs(tmp_path / name) for name in ("two", "one"))
    assert found.keys() == expected.keys() == set(LEARNERS)
    for name, alone in expected.items():
        assert found[name].folder.name != alone.folder.name  # Other processes, other sums: no log goes on with another.
        for t in range(2):
            scale = float(alone.scores(t).abs().max())
            torch.testing.assert_close(found[name].scores(t), alone.scores(t), rtol=0, atol=1e-5 * scale)


def test_what_cannot_be_is_said_in_one_line(drawn: Path, tmp_path: Path) -> None:
    for words in (["teach", tmp_path / "rover", drawn], ["bench", drawn, "--workers", "2", "--out", tmp_path]):
        done = run(2, *words)
        lines = [line for line in done.stderr.splitlines() if line.startswith("harkback: ")]
        # The first to refuse ends: the launcher may then stop the other before it has spoken.
        assert done.returncode and len(lines) in (1, 2) and len(set(lines)) == 1 and "torchrun" in lines[0]
    assert not (tmp_path / "rover").exists()


def accuracies(report: dict[str, Any]) -> list[tuple[str, float]]:
    return [(row["learner"], row["final_accuracy"]) for row in report["rows"]]


def runs(out: Path) -> dict[str, Run]:
    facts = json.loads((out / "bench.json").read_text(encoding="ascii"))
    return {each["learner"]: Run(out / "runs" / each["folder"], each["learner"], 0, 0) for each in facts["runs"]}
