"""What a session's time grows with: `python -m benchmarks.scaling`. Takes 2 GB of memory, and two minutes.

CPU seconds of learning one session, in this process, on one thread, from tokens in memory: against how many clips it
has, how many patches each has in a frame, how many classes are known before, and how many sessions came before. One
thing changes at a time. `times_reading` is how often the tokens of the largest session could have been read from memory
in the time that it took: what a learner makes of its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import process_time
from typing import Any

import torch

from benchmarks.machine import Rates, rates, threads
from benchmarks.report import tables
from benchmarks.tokens import AVE, drawn
from harkback.features import Features, Rows
from harkback.learners.base import Learner
from harkback.learners.hark import Hark
from harkback.learners.l3 import L3, L3Settings
from harkback.learners.ridge import Ridge
from harkback.stream import Session

CLIPS, CLASSES, EPOCHS = 192, 8, 3  #: of a session; epochs of `l3`, whose time is theirs
MANY_CLIPS = (64, 160, 400, 1000)
MANY_PATCHES = (4, 16, 64, 196)
KNOWN = (10, 100, 1000)  #: classes known before, of one clip each
SESSIONS = (1, 2, 4, 8)

Figures = dict[str, dict[str, float]]


def _l3() -> Learner[Any]:
    chosen = L3Settings()
    return L3(replace(chosen, train=replace(chosen.train, epochs=EPOCHS)), memory=CLIPS)


MADE: dict[str, Callable[[], Learner[Any]]] = {"hark": Hark, "ridge": Ridge, f"l3, {EPOCHS} epochs": _l3}


def measure() -> dict[str, Figures]:
    """By what changes, by learner, by how much of it there is: CPU seconds."""
    with threads(1):
        found = rates()
        features = drawn([i % CLASSES for i in range(max(MANY_CLIPS))], CLASSES, AVE, 0)
        for made in MADE.values():  # The first of each kind loads what all use.
            _taught(made(), features, 16)
        return {
            "clips": _against(found, _by_clips(features)),
            "patches": _against(found, _by_patches()),
            "known": _against(found, _by_known(features)),
            "sessions": _against(found, _by_sessions(features)),
        }


def _against(machine: Rates, points: Iterator[tuple[int, float, dict[str, float]]]) -> Figures:
    """points: how much, bytes of the session's tokens, CPU seconds by learner."""
    out: Figures = {"tokens, MB": {}, **{name: {} for name in MADE}}
    for amount, size, seconds in points:
        out["tokens, MB"][str(amount)] = size / 1e6
        for name, taken in seconds.items():
            out[name][str(amount)] = taken
            out[name]["times_reading"] = taken / (size / machine.read.cpu)  # Of the last, the largest, it stays.
    return out


def _by_clips(features: Features) -> Iterator[tuple[int, float, dict[str, float]]]:
    for clips in MANY_CLIPS:
        yield clips, _bytes(features, clips), {name: _taught(made(), features, clips) for name, made in MADE.items()}


def _by_patches() -> Iterator[tuple[int, float, dict[str, float]]]:
    for patches in MANY_PATCHES:
        features = drawn([i % CLASSES for i in range(CLIPS)], CLASSES, AVE._replace(patches=patches), 1)
        yield patches, _bytes(features, CLIPS), {name: _taught(made(), features, CLIPS) for name, made in MADE.items()}


def _by_known(features: Features) -> Iterator[tuple[int, float, dict[str, float]]]:
    for known in KNOWN:
        seconds = {}
        for name, made in MADE.items():
            learner = made()
            names = [f"known {i}" for i in range(known)]
            learner.learn(Session.of(Rows(features, torch.arange(known)), names))
            seconds[name] = _taught(learner, features, CLIPS)
        yield known, _bytes(features, CLIPS), seconds


def _by_sessions(features: Features) -> Iterator[tuple[int, float, dict[str, float]]]:
    taken = {}
    for name, made in MADE.items():
        learner = made()
        taken[name] = [_taught(learner, features, CLIPS, t) for t in range(max(SESSIONS))]
    for session in SESSIONS:
        yield session, _bytes(features, CLIPS), {name: seconds[session - 1] for name, seconds in taken.items()}


def _taught(learner: Learner[Any], features: Features, clips: int, session: int = 0) -> float:
    """CPU seconds of learning the first so many clips, of new classes."""
    rows = Rows(features, torch.arange(clips))
    lesson = Session.of(rows, [f"new {session}-{i % CLASSES}" for i in range(clips)])
    began = process_time()
    learner.learn(lesson)
    return process_time() - began


def _bytes(features: Features, clips: int) -> float:
    return float(clips * (features.audio[0].nbytes + features.visual[0].nbytes))


if __name__ == "__main__":
    print("\n\n".join(tables(measure())))
