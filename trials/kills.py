"""Kill commands at moments that are drawn: `python -m trials.kills [--command NAME ...] [--kills 200] [--seed 0]`.

Each command is killed (SIGKILL) until so many kills fell inside it. What is left must open and be the old state or the
new one, or, of commands that keep what was finished, a part of the new; the same command must then come to the result
of a run that nobody killed, with nothing left over. Prints a table, with ``--out`` written as JSON too; the exit status
is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parents[1]
# Before torch is loaded; and processes that are started from here must find the tests' encoder too.
os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join([str(HERE / "tests"), *sys.path]))
sys.path.insert(0, str(HERE / "tests"))

from trials.killing import Tally, trial  # noqa: E402

COMMANDS = ("extract", "bench", "teach", "undo", "forget", "app")
COLUMNS = ("command", "kills", "inside", "old", "between", "new", "equal", "wrong")
TITLES = ("command", "kills made", "fell inside", "left old", "left a part", "left new", "went on equal", "wrong")


def main() -> int:
    asked = _asked()
    tallies = []
    with tempfile.TemporaryDirectory(prefix="kills-") as root:
        for tally in _trials(Path(root), asked):
            tallies.append(tally)
            print(f"{tally.command}: {tally.inside} in {tally.took:.0f} s, wrong: {len(tally.wrong)}", file=sys.stderr)
            for line in tally.wrong[:10]:
                print(f"  {line}", file=sys.stderr)
            if asked.out:
                asked.out.write_text(json.dumps([asdict(each) for each in tallies], indent=1) + "\n")
    print("| " + " | ".join(TITLES) + " |\n|" + "---|" * len(TITLES))
    for tally in tallies:
        cells = [getattr(tally, name) for name in COLUMNS]
        print("| " + " | ".join(str(len(cell) if isinstance(cell, list) else cell) for cell in cells) + " |")
    print(f"Seed {asked.seed}.")
    return int(any(tally.wrong for tally in tallies))


def _trials(root: Path, asked: argparse.Namespace) -> Iterator[Tally]:
    import torch
    from tqdm import tqdm

    from harkback import registry
    from trials.killed_app import app_trials
    from trials.victims import forked_from_here, victims

    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # Its thread would be forked in whatever it is doing.
    registry.entry_points = lambda **_: ()  # type: ignore[assignment]  # To look for them takes half of a lesson's time.
    forked_from_here()
    commands = victims(root / "material")
    for name in asked.command:
        if name == "app":
            yield from app_trials(root, asked.kills, asked.seed)
            continue
        for command in commands[name]:
            yield trial(command, root / "at work", asked.kills, asked.seed)
        yield trial(commands[name][0], root / "at work", asked.kills, asked.seed, twice=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trials.kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--command", nargs="+", choices=COMMANDS, default=COMMANDS, help="what is killed; all")
    parser.add_argument("--kills", type=int, default=200, help="that must fall inside, of each; 200")
    parser.add_argument("--seed", type=int, default=0, help="by which moments are drawn; 0")
    parser.add_argument("--out", type=Path, help="file for the counts, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
