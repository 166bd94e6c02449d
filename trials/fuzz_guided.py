"""Inputs grown towards code not reached before: ``python -m trials.fuzz_guided [--seconds N] [--only NAME,...]``.

It takes what is in tests/corpus and puts there what reaches something new or breaks something. It needs atheris, which
harkback itself does not: pip install atheris
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
#: What is read by Python alone, so that its coverage tells something.
NAMES = ("csv", "tar", "shards", "pickle", "store", "store-list", "bench.json", "session.json", "signed-model.json")
LARGEST = 6144  #: bytes of an input


def grow(name: str, folder: Path, words: list[str]) -> None:
    """In a process of its own, which libFuzzer takes over and ends."""
    import atheris

    with atheris.instrument_imports(include=["harkback"], enable_loader_override=False):
        from trials.fuzz_records import everything, restore, targets, tried

        root = folder / "records"
        found = targets(root, {name})[name]
    files, seen = everything(root), set[str]()
    (Path(words[-2]) / "seed").write_bytes(found.seed)

    def one(data: bytes) -> None:
        wrong = tried(found, data)
        if found.file.parent.exists() and name.startswith("store"):
            restore(root, files)
        if wrong is not None and wrong not in seen:
            seen.add(wrong)
            print(f"BROKE {name}: {wrong}", flush=True)
            keep(name, data, "broke-")

    atheris.Setup([sys.argv[0], *words], one)
    atheris.Fuzz()


def keep(name: str, data: bytes, start: str = "") -> None:
    place = CORPUS / name
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{start}{sha256(data).hexdigest()[:12]}").write_bytes(data)


def choose(name: str, folder: Path, grown: Path) -> None:
    """Keep of what was grown the smallest that reach lines which nothing in the corpus reaches."""
    from trials.fuzz_records import everything, restore, targets, tried

    found, files = targets(folder / "records", {name})[name], everything(folder / "records")
    known: set[tuple[str, int]] = set()

    def reached(data: bytes) -> set[tuple[str, int]]:
        lines: set[tuple[str, int]] = set()

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if "harkback" not in frame.f_code.co_filename and "tarfile" not in frame.f_code.co_filename:
                return None
            if event == "line":
                lines.add((frame.f_code.co_filename, frame.f_lineno))
            return trace

        sys.settrace(trace)
        try:
            tried(found, data)
        finally:
            sys.settrace(None)
            restore(folder / "records", files)
        return lines

    reached(found.seed)  # What is only done once.
    for path in (CORPUS / name).iterdir():
        known |= reached(path.read_bytes())
    for path in sorted(grown.iterdir(), key=lambda path: path.stat().st_size):
        new = reached(path.read_bytes()) - known
        if new:
            known |= new
            keep(name, path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each name")
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--grow", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("--choose", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit("fuzz_guided: atheris is not installed; pip install atheris")
    if asked.grow:
        grow(asked.grow[0], Path(asked.grow[1]), asked.grow[2:])
        return
    if asked.choose:
        choose(asked.choose[0], Path(asked.choose[1]), Path(asked.choose[2]))
        return
    for name in (each for each in NAMES if each in asked.only.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            grown, seeds = Path(scratch) / "grown", CORPUS / name
            grown.mkdir()
            seeds.mkdir(parents=True, exist_ok=True)
            limits = [f"-max_len={LARGEST}", "-rss_limit_mb=4096", "-timeout=20"]
            run = [sys.executable, "-m", "trials.fuzz_guided", "--grow", name]
            first = [*run, f"{scratch}/a", f"-max_total_time={asked.seconds}", *limits, str(grown), str(seeds)]
            said = subprocess.run(first, capture_output=True, text=True)
            print(*(line for line in said.stdout.splitlines() if line.startswith("BROKE")), sep="\n", end="")
            last = [line for line in said.stderr.splitlines() if line.startswith(("Done", "#", "SUMMARY"))][-1:]
            subprocess.run([*run[:-2], "--choose", name, f"{scratch}/b", str(grown)], check=True)
            print(f"{name}: {' '.join(last)}; {len(list(seeds.iterdir()))} in the corpus", flush=True)


if __name__ == "__main__":
    main()
