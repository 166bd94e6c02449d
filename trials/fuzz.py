"""Spoiled files and requests by the thousand: ``python -m trials.fuzz [--files N] [--only NAME,...]``, ``--help``.

Nothing may end this process, hang it or fill its memory; what cannot be read must say so in one line. What breaks
something stays in the folder that is named at the end.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

from harkback.confined import Broken, Confined, Limits, Say
from trials import fuzz_http, fuzz_media
from trials.fuzz_bytes import misfit, spoiled
from trials.fuzz_records import everything, restore, targets, tried

LIMITS = Limits(memory=3 << 30, silence=60.0)


def records(say: Say, root: Path, only: set[str], count: int, seed: int) -> None:
    """In a process of its own: so many spoiled files of each kind."""
    found = targets(root, only)
    files = everything(root)
    for name, target in found.items():
        if only and not only & {name, "records"}:
            continue
        some, broke, slowest = random.Random(f"{seed} {name}"), Counter[str](), 0.0
        others = [each.seed for each in found.values()]
        for number in range(count):
            as_json = target.text and number % 2
            data = misfit(target.seed, some) if as_json else spoiled(target.seed, some, others)
            (root.parent / "last").write_bytes(data)
            say(({"at": f"{name} {number}"}, {}))
            began = time.monotonic()
            wrong = tried(target, data)
            slowest = max(slowest, time.monotonic() - began)
            restore(root, files)
            if wrong is not None:
                broke[wrong] += 1
                if broke[wrong] == 1:
                    (root.parent / f"{name.replace('/', '-')}-{seed}-{number}").write_bytes(data)
                    say(({"broke": f"{name} {number}: {wrong}"}, {}))
        mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        say(({"done": f"{name}: {count} files, {broke.total()} broke it, slowest {slowest:.2f} s, {mib} MiB"}, {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000, help="of videos and sound")
    parser.add_argument("--records", type=int, default=1000, help="of each other kind")
    parser.add_argument("--requests", type=int, default=2000, help="to a server of the app")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="media, http, records, or names of such: csv, tar, pickle, ...")
    asked = parser.parse_args()
    only = {name for name in asked.only.split(",") if name}
    folder, broke = Path(tempfile.mkdtemp(prefix="harkback-fuzz-")), []
    if not only or only - {"media", "http"}:
        last = ""
        try:
            with Confined(records, folder / "records", only, asked.records, asked.seed, limits=LIMITS) as running:
                for facts, _ in running:
                    last = facts.get("at", last)
                    broke += [facts["broke"]] if "broke" in facts else []
                    if "at" not in facts:
                        print(" ", facts.get("done") or f"BROKE {facts['broke']}", flush=True)
        except Broken as error:
            broke.append(f"{last} ended its process: {error}; what it was given is {folder / 'last'}")
    if not only or "media" in only:
        tally, more = fuzz_media.campaign(asked.files, asked.seed, folder)
        broke += more
        print("  media:", ", ".join(f"{count} {name}" for name, count in tally.most_common()))
    if not only or "http" in only:
        tally, more = fuzz_http.campaign(asked.requests, asked.seed, folder / "http")
        broke += more
        print("  http:", ", ".join(f"{count} {name}" for name, count in tally.most_common()))
    for line in broke:
        print(f"BROKE {line}")
    print(f"{len(broke)} things broke; seed {asked.seed}; what broke them is in {folder}")
    raise SystemExit(1 if broke else 0)


if __name__ == "__main__":
    main()
