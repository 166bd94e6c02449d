"""Time and memory of the main job: `python -m benchmarks.commands [CLIPS [WORK]]` (default: the demo's, a new folder).

Runs the commands that a person types, each in a process tree of its own, in the folder WORK, and prints a row for each:
wall seconds, and the largest memory that all its processes held at one time. Resident memory counts pages that
processes share once for each of them, so it is an upper bound; proportional memory counts them once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.report import tables

EVERY = 0.1  # seconds between looks at the memory


def measured(argv: list[str], folder: Path) -> tuple[float, float, float]:
    """(seconds, peak resident MB, peak proportional MB) of a command and all its children."""
    began = time.perf_counter()
    process = psutil.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    resident = proportional = 0.0
    while process.poll() is None:
        with suppress(psutil.Error):
            tree = [process, *process.children(recursive=True)]
            full = [memory for p in tree if (memory := _memory(p)) is not None]
            resident = max(resident, sum(m[0] for m in full) / 1e6)
            proportional = max(proportional, sum(m[1] for m in full) / 1e6)
        time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} left with status {process.returncode}")
    return time.perf_counter() - began, resident, proportional


def _memory(process: psutil.Process) -> tuple[int, int] | None:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return None
    return full.rss, getattr(full, "pss", full.rss)


def measure(source: str | None = None, work: str | None = None) -> dict[str, dict[str, float]]:
    """By command: seconds and MB. source: folder of clips; work: folder that the commands run in."""
    harkback = str(Path(sys.executable).with_name("harkback"))
    data = str(Path(source).resolve()) if source else "harkback-runs/demo/clips-8"
    shown = Path(source).name if source else "the demo's clips"
    flags = ["--memory", "60", "--seeds", "3", "--sessions", "5" if source else "4"]
    commands = {
        "harkback demo": ["demo"],
        f"extract {shown}": ["extract", data, "--store", "features"],
        f"bench {shown}: 5 learners, 3 seeds": ["bench", data, "--store", "features", "--out", "bench", *flags],
    }
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(work or name)
        folder.mkdir(parents=True, exist_ok=True)
        for title, command in commands.items():
            seconds, resident, proportional = measured([harkback, *command], folder)
            found[title] = {
                "seconds": seconds,
                "peak_resident_mb": resident,
                "peak_proportional_mb": proportional,
            }
    return found


if __name__ == "__main__":
    print("\n\n".join(tables(measure(*sys.argv[1:]))))
