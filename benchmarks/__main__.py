"""Speed, memory and scaling in one report: `python -m benchmarks [PART ...] [--record]`.

Each part is measured in a process of its own, one after another. What is compared with the record, `results.json`, are
ratios within one run, never seconds; if one has become worse, or a part fails, the exit status is 1. With `--record`,
or if there is no record and no part is named, what was measured is written there, and the report with its picture
beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from benchmarks import record
from benchmarks.comparison import TOLERANCE, worse
from benchmarks.machine import described
from benchmarks.report import TITLES, report

HERE = Path(__file__).parent
MODULES = {"rates": "machine", "closed-forms": "closed_forms"}  #: of parts that are called otherwise
ON_REQUEST = ("commands", "models", "app")  #: they decode and encode clips: minutes that say little of learning


def main() -> int:
    asked = _asked()
    machine = described()
    before = record.read(HERE)
    if before and before["machine"] != machine:
        print(f"The record is of another machine, or another torch: {before['machine']}", file=sys.stderr)
        if asked.record and asked.parts:
            raise SystemExit("a record is of one machine: record all parts, without naming any")
    usual = [part for part in TITLES if part not in ON_REQUEST and (part != "gpu" or "gpu" in machine)]
    found, failed = measured(asked.parts or usual)
    found["machine"] = machine
    print(report(found))
    lines = worse(before, found)
    for line in lines:
        print(f"WORSE than recorded by more than {TOLERANCE} times: {line}")
    for part in failed:
        print(f"FAILED: {part}")
    if before and not lines:
        print("No ratio is worse than recorded.")
    if asked.record or not (before or asked.parts):
        record.write(HERE, record.merged(before, found))
        return 1 if failed else 0
    return 1 if lines or failed else 0


def measured(parts: Sequence[str]) -> tuple[record.Results, list[str]]:
    """What was found, by part, and the parts that failed."""
    found: record.Results = {"parts": {}}
    failed = []
    surroundings = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # Threads that wait sleep, as in the command.
    with tempfile.TemporaryDirectory() as name:
        bar = tqdm(parts, unit="part")
        for part in bar:
            bar.set_description(part)
            path, began = Path(name) / f"{part}.json", perf_counter()
            argv = [sys.executable, "-m", "benchmarks.alone", MODULES.get(part, part), str(path)]
            if subprocess.run(argv, check=False, cwd=HERE.parent, env=surroundings).returncode:
                failed.append(part)
                continue
            found[part] = json.loads(path.read_text())
            found["parts"][part] = {"date": date.today().isoformat(), "seconds": round(perf_counter() - began)}
    if "protocol" in found:
        seconds = {learner: of["wall_seconds"] for learner, of in found["protocol"].items()}
        found["protocol_ave_shape_seconds"] = seconds
    return found, failed


def _asked() -> argparse.Namespace:
    take = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(":")[0])
    usually = f"{', '.join(TITLES)}; none: all but {', '.join(ON_REQUEST)}"
    take.add_argument("parts", nargs="*", metavar="PART", help=usually)
    take.add_argument("--record", action="store_true", help="what is measured becomes what is compared with")
    asked = take.parse_args()
    if unknown := [part for part in asked.parts if part not in TITLES]:
        take.error(f"there is no part {', '.join(unknown)}; choose from {', '.join(TITLES)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
