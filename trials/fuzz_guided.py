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

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
#: What is read by Python alone, so that its coverage tells something.
NAMES = ("csv", "tar", "shards", "pickle", "store", "store-list", "bench.json", "session.json", "model.json, signed")
LARGEST = 2048  #: bytes of an input


def grow(name: str, folder: Path, words: list[str]) -> None:
    """In a process of its own, which libFuzzer takes over and ends."""
    import atheris

    with atheris.instrument_imports(include=["harkback"], enable_loader_override=False):
        from trials.fuzz_records import everything, restore, targets, tried

        root = folder / "records"
        found = targets(root, {name})[name]
    files, seen = everything(root), set[str]()

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
    place = CORPUS / name.replace(", ", "-")
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{start}{sha256(data).hexdigest()[:12]}").write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each name")
    parser.add_argument("--only", default=",".join(each.partition(",")[0] for each in NAMES))
    parser.add_argument("--grow", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit("fuzz_guided: atheris is not installed; pip install atheris")
    if asked.grow:
        grow(asked.grow[0], Path(asked.grow[1]), asked.grow[2:])
        return
    for name in (each for each in NAMES if each.partition(",")[0] in asked.only.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            grown, seeds = Path(scratch) / "grown", CORPUS / name.replace(", ", "-")
            grown.mkdir()
            seeds.mkdir(parents=True, exist_ok=True)
            limits = [f"-max_len={LARGEST}", "-rss_limit_mb=4096", "-timeout=20"]
            run = [sys.executable, "-m", "trials.fuzz_guided", "--grow", name]
            first = [*run, f"{scratch}/a", f"-max_total_time={asked.seconds}", *limits, str(grown), str(seeds)]
            said = subprocess.run(first, capture_output=True, text=True)
            print(*(line for line in said.stdout.splitlines() if line.startswith("BROKE")), sep="\n", end="")
            last = [line for line in said.stderr.splitlines() if line.startswith(("Done", "#", "SUMMARY"))][-1:]
            # Of all, the fewest that reach everything.
            merged = [*run, f"{scratch}/b", "-merge=1", *limits, str(seeds), str(grown)]
            subprocess.run(merged, capture_output=True, text=True)
            print(f"{name}: {' '.join(last)}; {len(list(seeds.iterdir()))} in the corpus", flush=True)


if __name__ == "__main__":
    main()
