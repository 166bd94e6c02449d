"""Where work is to be done: here without Ray, or in one line why not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from commands import failure
from fakes import tone, tones
from harkback.cluster import joined
from harkback.errors import HarkbackError


def test_this_process_does_its_work_itself() -> None:
    with joined(None) as machines:
        assert machines is None


@pytest.mark.parametrize("on", ["", "slurm", "ray://", "http://ray", "rays", "ray:"])
def test_engines_that_are_none(on: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tones(tmp_path / "clips" / "a", 2)
    said = failure(capsys, "extract", tmp_path / "clips", "--store", tmp_path / "store", "--on", on)
    assert "--on" in said and "ray://HOST:PORT" in said
    assert not (tmp_path / "store").exists()


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "harkback.cluster.machines", raising=False)
    with pytest.raises(HarkbackError, match=r'pip install "harkback\[ray\]"'), joined("ray"):
        pass


def test_workers_are_counted_here_or_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tones(tmp_path / "clips" / "a", 2)
    for command in ("extract", "bench"):
        said = failure(capsys, command, tmp_path / "clips", "--workers", "2", "--on", "ray")
        assert "--workers" in said


def test_nothing_of_a_cluster_is_imported_where_one_machine_works(tmp_path: Path) -> None:
    for i in range(4):
        tone(tmp_path / "clips" / "ab"[i % 2] / f"{i}.wav", 300 + 50 * i)
    program = f"""
import sys
import harkback.harness
from harkback.cli import main
main(["extract", {str(tmp_path / "clips")!r}, "--store", {str(tmp_path / "store")!r}, "--workers", "0"])
found = {{name.partition(".")[0] for name in sys.modules}} & {{"ray", "pyarrow", "pandas"}}
print("brought:", *found, *(name for name in sys.modules if name.startswith("harkback.cluster.")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "brought:"
