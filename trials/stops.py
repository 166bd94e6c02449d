"""Ctrl-C at drawn moments, to a command and all processes beside it: `python -m trials.stops [--times 20]`.

It must end within the limit with one line, or have been done; no traceback, no defect. Moments are drawn evenly from
when Python itself is up, which shows a traceback of its own before, until a run ends.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from harkback.datasets.demo import Demo

UP = 0.5  #: seconds
ENDLESS = 8.0  #: seconds of the app, and of a demo, that are looked at
PATIENCE = 60.0  #: seconds within which it must have ended
OURS, APPS = "harkback: stopped; what was finished is kept", "stopped"


def commands(root: Path) -> dict[str, list[str]]:
    clips, model = root / "clips", root / "rover"
    for clip in Demo(root / "drawn", classes=3, train=4, test=2).splits["train"]:
        (clips / clip.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, clips / clip.label)
    started(["teach", str(model), str(clips)], root).communicate()
    asked = str(next(clips.rglob("*.mp4")))
    out, store = root / "new" / "out", root / "new" / "store"
    bench = ["bench", str(clips), "--out", str(out), "--store", str(store), "--sessions", "3", "--learners", "ncm,l3"]
    return {
        "extract": ["extract", str(clips), "--store", str(store)],
        "bench": [*bench, "--workers", "2"],
        "teach": ["teach", str(root / "new" / "model"), str(clips)],
        "predict": ["predict", str(model), asked],
        "inspect": ["inspect", str(model)],
        "app": ["app", str(model), "--port", "0", "--no-browser"],
        "demo": ["demo"],
    }


def started(argv: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harkback", *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def stopped(argv: list[str], root: Path, after: float) -> tuple[str, str]:
    """What became of it, and what it said."""
    shutil.rmtree(root / "new", ignore_errors=True)
    (root / "new").mkdir()
    with started(argv, root / "new") as process:
        time.sleep(after)
        try:
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE)
        except ProcessLookupError:
            _, said = process.communicate()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return "went on", process.communicate()[1]
    last = (said.replace("\r", "\n").strip().splitlines() or [""])[-1].strip()
    if "Traceback" in said or "defect" in said:
        return "showed a traceback", said
    if last.startswith(OURS) or last == APPS:
        return "stopped", said
    if process.returncode in (0, -signal.SIGINT):  # The latter: while Python itself put things away.
        return "was done", said
    return "ended otherwise", f"{process.returncode}: {said}"


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--times", type=int, default=20)
    words.add_argument("--seed", type=int, default=0)
    asked = words.parse_args()
    draw, wrong = random.Random(asked.seed), []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for command, argv in commands(root).items():
            began = time.monotonic()
            length = ENDLESS
            if command not in ("app", "demo"):
                (root / "new").mkdir(exist_ok=True)
                started(argv, root / "new").communicate()
                length = time.monotonic() - began
            found: Counter[str] = Counter()
            for _ in tqdm(range(asked.times), desc=command, leave=False):
                after = draw.uniform(UP, length)
                became, said = stopped(argv, root, after)
                found[became] += 1
                if became not in ("stopped", "was done"):
                    wrong.append(f"{command} after {after:.2f} s {became}: {said}")
            print(f"{command}, {length:.1f} s:", ", ".join(f"{count} {what}" for what, count in found.most_common()))
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
