"""What a clip costs `hark` while it is learnt: `python -m benchmarks.hark`.

Clips have the shape of AVE-CI's tokens. What 384 more of them cost in a session is the time of a session of 768 less
that of one of 384, so what is solved once a session, however many clips it has, is not in it. Beside it stands the
least that this could take: its operations at the rate of large matrices, or its bytes at that of reading.
One thread; each session is taught `REPEATS` times, and the shortest counts: what else the machine does takes time too.
"""

from __future__ import annotations

import os
from time import process_time
from typing import Any

import torch

from benchmarks.machine import Work, rates, threads
from benchmarks.tokens import AVE, drawn
from harkback.features import Features
from harkback.learners.hark import SHARES, Hark
from harkback.stream import Session

CLASSES = 28
MORE = 384  #: clips
REPEATS = 5


def measure() -> dict[str, Any]:
    """CPU seconds, of one thread."""
    learner = Hark()
    seconds: dict[int, list[float]] = {MORE: [], 2 * MORE: []}
    with threads(1):
        _taught(learner, _clips(0), 2 * MORE)  # The first session has more to do.
        machine = rates()
        for seed in range(REPEATS):
            clips = _clips(1 + seed)
            for count, found in seconds.items():
                found.append(_taught(learner, clips, count))
    fewer, more = (min(found) for found in seconds.values())
    work = needed(learner)
    least = work.roofline(machine)
    return {
        "clips": MORE,
        "cpu_seconds": more - fewer,
        "roofline_seconds": least,
        "times_roofline": (more - fewer) / least,
        "solving_once_a_session_cpu_seconds": 2 * fewer - more,
        "operations_float32": work.operations,
        "operations_float64": work.doubles,
        "bytes": work.bytes,
    }


def needed(learner: Hark) -> Work:
    """What learning `MORE` clips cannot do without. A product of a matrix with itself counts half.

    Operations on single numbers are left out, and what depends on the number of classes.
    """
    s, patches, dim = learner.settings, AVE.frames * AVE.patches, AVE.visual_dim
    columns, heard = learner.weight.shape[0], learner.gaze.shape[0]
    moving = 2 * dim + s.features  # What is looked at and what is pictured; the other columns stand.
    standing = columns - moving
    # In float32: random features, products of patches, likeness and mean of patches in each pass.
    bags = 2 * s.features * AVE.audio_tokens * AVE.audio_dim + s.features * patches * dim
    singles = bags + patches * dim**2 + s.passes * 4 * patches * dim
    # In float64: the clip's own products, its solution among the sounds, its leverage with the others of its session,
    # what is foretold by them and the direction that follows; then its solution at each share, left out.
    others = 3 * MORE  # What 768^2 - 384^2 pairs come to for each of 384 clips.
    guide = 2 * heard**2 + heard * others + s.passes * (2 * others * dim + 2 * dim**2)
    left_out = standing**2 + 2 * standing * moving + len(SHARES) * moving**2
    tokens = AVE.audio_tokens * AVE.audio_dim + patches * dim
    return Work(MORE * (1 + s.passes) * 2 * tokens, MORE * singles, MORE * (columns**2 + guide + left_out))


def _taught(learner: Hark, clips: Features, count: int) -> float:
    """CPU seconds of a session of so many of the clips."""
    some = clips[torch.arange(count)]
    with Session.of(some, [f"class {row % CLASSES}" for row in range(count)]) as session:
        began = process_time()
        learner.learn(session)
        return process_time() - began


def _clips(seed: int) -> Features:
    return drawn([row % CLASSES for row in range(2 * MORE)], CLASSES, AVE, seed)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name, value in measure().items():
        print(f"{name}: {value:.4g}")
