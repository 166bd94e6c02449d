"""A whole protocol of the size of AVE-CI: `python -m benchmarks.protocol`. Takes 0.8 GB of a temporary folder.

3,294 clips of 28 classes come in 4 sessions, and 402 others are asked after each; 1 token of sound and 8 x 16 of the
picture, 768 numbers each, in half precision, in a store on the disk. Every learner has a process of its own, its
default settings and all cores. What they get right says that something was learnt; the clips are noise with a little
sense in it, so it compares no methods.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from benchmarks.comparison import CLOSED_FORM
from benchmarks.machine import peak_memory
from benchmarks.report import tables
from benchmarks.tokens import AVE, opened, stored
from harkback.device import training_on
from harkback.registry import LEARNERS
from harkback.stream import Stream
from harkback.workers import cores

CLASSES, SESSIONS, TRAIN, TEST, MEMORY = 28, 4, 3294, 402, 340  #: clips in all; exemplars in all
ASKED = ("hark", *CLOSED_FORM, "l3")


def measure(learners: Sequence[str] = ASKED, device: str = "cpu") -> dict[str, Any]:
    """By learner: seconds, MB, and the share of the last answers that are right. device: where networks are trained."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for part, (labels, seed) in _parts().items():
            stored(Path(name) / part, labels, CLASSES, AVE, seed)
        for learner in learners:
            argv = [sys.executable, "-m", "benchmarks.protocol", learner, name, device]
            told = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[learner] = json.loads(told.splitlines()[-1])
            print(f"  {learner}: {found[learner]['wall_seconds']:.1f} s", file=sys.stderr, flush=True)
    return found


def taken(learner: str, root: Path) -> dict[str, float]:
    """The protocol, by one learner, in this process."""
    torch.set_num_threads(cores())
    labels, asked = (of for of, _ in _parts().values())
    train, test = (opened(root / part, AVE, len(of)) for part, (of, _) in _parts().items())
    order = [f"class {number:02}" for number in range(CLASSES)]
    student = LEARNERS.load(learner)(memory=MEMORY)
    learnt = 0.0
    began = perf_counter(), process_time()
    for session in Stream(train, [order[number] for number in labels], order, [CLASSES // SESSIONS] * SESSIONS):
        start = perf_counter()
        with session:
            student.learn(session)
        learnt += perf_counter() - start
        scores = student.scores(test)
    seconds = perf_counter() - began[0], process_time() - began[1]
    said = [student.classes[column] for column in scores.argmax(1).tolist()]
    right = sum(name == order[number] for name, number in zip(said, asked, strict=True)) / TEST
    return {
        "wall_seconds": seconds[0],
        "of_them_learning": learnt,
        "cpu_seconds": seconds[1],
        "peak_resident_mb": peak_memory(),
        "right": right,
    }


def _parts() -> dict[str, tuple[list[int], int]]:
    """Labels and seed of the clips that are learnt and of those that are asked."""
    return {"train": ([i % CLASSES for i in range(TRAIN)], 1), "test": ([i % CLASSES for i in range(TEST)], 10**6)}


def main(*asked: str) -> None:
    if asked:
        learner, root, device = asked
        with training_on(torch.device(device)):
            print(json.dumps(taken(learner, Path(root))))
        return
    print("\n\n".join(tables(measure())))


if __name__ == "__main__":
    main(*sys.argv[1:])
