"""Learners in closed form: `python -m benchmarks.closed_forms`, and `python -m benchmarks.closed_forms many`.

The protocol of `benchmarks.protocol` by each of them; `ranpac` has 10,000 random features. What pooling tokens takes,
beside reading them once from memory; on one thread. With `many`, which takes minutes: `ranpac` and 20,000 clips of few
tokens in 4 sessions, more clips than features: what memory its sums take.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter, process_time
from typing import Any

from benchmarks import protocol
from benchmarks.machine import Work, cpu_seconds, peak_memory, rates, threads
from benchmarks.report import tables
from benchmarks.tokens import AVE, drawn
from harkback.features import TokenShape
from harkback.learners.ranpac import RanPAC
from harkback.pooling import summaries
from harkback.stream import Session

ASKED = ("ranpac", "klda", "mmal")  #: the others are measured by `benchmarks.protocol`
POOLED = 384  #: clips
SHAPES = {"1 + 8x16 tokens of 768": AVE, "200 + 8x16 tokens of 64": TokenShape(200, 64, 8, 16, 64)}
MANY, SESSIONS, CLASSES = 20_000, 4, 28  #: clips, in all
FEW = TokenShape(audio_tokens=2, audio_dim=768, frames=1, patches=2, visual_dim=768)


def measure() -> dict[str, Any]:
    """By learner, the protocol; by shape, CPU seconds of pooling."""
    return {"pooling": pooling(), "protocol": protocol.measure(ASKED)}


def pooling() -> dict[str, dict[str, float]]:
    found = {}
    machine = rates()
    for name, shape in SHAPES.items():
        clips = drawn([0] * POOLED, 1, shape, 0)
        size = clips.audio.nbytes + clips.visual.nbytes
        roofline = Work(size, 0).roofline(machine)
        with threads(1):
            taken = cpu_seconds(lambda: summaries(clips)).cpu  # noqa: B023
        found[name] = {
            "bytes": size,
            "cpu_seconds": taken,
            "roofline_cpu_seconds": roofline,
            "times_roofline": taken / roofline,
        }
    return found


def many() -> dict[str, float]:
    """In this process."""
    learner, wall, cpu = RanPAC(), 0.0, 0.0
    each = CLASSES // SESSIONS
    for session in range(SESSIONS):
        labels = [session * each + i % each for i in range(MANY // SESSIONS)]
        lesson = Session.of(drawn(labels, CLASSES, FEW, session), [f"class {label:02}" for label in labels])
        began = perf_counter(), process_time()
        learner.learn(lesson)
        wall, cpu = wall + perf_counter() - began[0], cpu + process_time() - began[1]
    return {"wall_seconds": wall, "cpu_seconds": cpu, "peak_resident_mb": peak_memory()}


def main(*asked: str) -> None:
    if asked == ("many",):
        print(json.dumps(many(), indent=1))
    else:
        print("\n\n".join(tables(measure())))


if __name__ == "__main__":
    main(*sys.argv[1:])
