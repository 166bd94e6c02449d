"""One training step of `l3` beside a plain step of AV-CIL: `python -m benchmarks.step`.

256 new clips and 128 exemplars, as AV-CIL trains. Both begin with the batch in memory (the plain one as float32, ours
in the half precision that it is kept in); what reading a batch from the store costs is measured beside. Each is
measured in a process of its own, in turns, so that memory is that of one alone. The roofline is that of our step: the
bytes of the tokens, read once, and the matrix products that PyTorch counts in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import Work, peak_memory, rates
from benchmarks.plain_avcil import PlainStep, Shape
from harkback.buffer import Buffer
from harkback.encoders import open_encoder
from harkback.features import Features, Joined, Rows, TokenShape
from harkback.learners.l3 import L3, L3Settings
from harkback.store import FeatureStore, Stored
from harkback.stream import Session

NEW, HELD = 256, 128  #: clips of a batch
CLASSES = 8  #: of a session
SHAPES = {"8x16x768": TokenShape(1, 768, 8, 16, 768), "8x196x768": TokenShape(1, 768, 8, 196, 768)}
PART = {"8x16x768": 1, "8x196x768": 8}  #: the plain step is measured on one clip of so many: all need over 20 GB
STEPS = 6  #: a turn
TURNS = 2


def measure() -> dict[str, Any]:
    """By shape: CPU seconds, their ratio, how many times the roofline, resident MB."""
    found = rates()
    out: dict[str, Any] = {}
    for name in SHAPES:
        turns = [(_child("plain", name), _child("l3", name)) for _ in range(TURNS)]
        plain = median(second for one, _ in turns for second in one["steps"]) * PART[name]
        whole = median(second for _, one in turns for second in one["steps"])
        reading = median(one["reading"] for _, one in turns)
        ours = turns[0][1]
        roofline = Work(ours["bytes"], ours["operations"]).roofline(found)
        out[name] = {
            "plain_avcil_cpu_seconds": plain,
            "l3_cpu_seconds": whole - reading,
            "l3_reading_cpu_seconds": reading,
            "cheaper_than_plain_avcil": plain / (whole - reading),
            "cheaper_than_plain_avcil_with_reading": plain / whole,
            "roofline_cpu_seconds": roofline,
            "times_roofline": (whole - reading) / roofline,
            "bytes": ours["bytes"],
            "operations": ours["operations"],
            "l3_resident_mb": max(one["resident_mb"] for _, one in turns),
            "plain_avcil_clips_measured": (NEW + HELD) // PART[name],
        }
    return out


def _child(what: str, shape: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "benchmarks.step", what, shape]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # Of both: what threads cost each other is not the step's.
    told = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, env=alone).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


def plain_step(shape: TokenShape, part: int) -> dict[str, Any]:
    """As a researcher runs it, whose allocator hands memory back."""
    some = torch.Generator().manual_seed(0)
    step = PlainStep(Shape(shape.audio_dim, *shape[2:]), 2 * CLASSES, CLASSES, 0)
    clips = (NEW + HELD) // part
    exemplars = torch.arange(clips) >= NEW // part
    targets = torch.randint(CLASSES, (clips,), generator=some) + torch.where(exemplars, CLASSES, 2 * CLASSES)
    audio = torch.randn(clips, shape.audio_dim, generator=some)
    visual = torch.randn(clips, *shape[2:], generator=some)
    return {"steps": _timed(lambda: step.step(audio, visual, targets, exemplars))}


def l3_step(shape: TokenShape) -> dict[str, Any]:
    """Steps of the learner as it is, told apart by the network's calls, and what reading a batch costs."""
    chosen = L3Settings()
    train = replace(chosen.train, epochs=STEPS + 1, batch=NEW, replay=HELD)
    learner = L3(replace(chosen, train=replace(train, epochs=1)), memory=HELD)
    with tempfile.TemporaryDirectory() as folder:
        rows = _stored(Path(folder), shape)
        old, new = torch.arange(HELD), torch.arange(HELD, HELD + NEW)
        learner.learn(Session.of(rows[old], [f"class {i % CLASSES}" for i in range(HELD)]))
        learner.settings = replace(chosen, train=train)
        stamps: list[float] = []
        hook = learner.network.register_forward_pre_hook(
            lambda *_: stamps.append(time.process_time()) if torch.is_grad_enabled() else None
        )
        second = Rows(rows, new)
        learner.learn(Session.of(second, [f"class {CLASSES + i % CLASSES}" for i in range(NEW)]))
        hook.remove()
        assert learner.memory.features is not None
        both = Joined(second, learner.memory.features)
        read = Buffer(both, NEW + HELD)
        order = torch.Generator().manual_seed(0)
        reading = _timed(lambda: read(torch.randperm(len(both), generator=order)))
        resident = peak_memory()
        with FlopCounterMode(display=False) as counted:
            said = learner.network(read(torch.arange(len(both))), order)
            (said.logits.sum() + said.fused.sum()).backward()
    size = 2 * (NEW + HELD) * (shape.audio_tokens * shape.audio_dim + shape.frames * shape.patches * shape.visual_dim)
    return {
        "steps": [later - sooner for sooner, later in pairwise(stamps[1:])],
        "reading": median(reading),
        "resident_mb": resident,
        "bytes": size,
        "operations": counted.get_total_flops(),
    }


def _stored(folder: Path, shape: TokenShape) -> Stored:
    """Clips of noise in a store, as many as a batch has."""
    store = FeatureStore.open(folder, replace(open_encoder("signal").spec, shape=shape))
    some, keys = torch.Generator().manual_seed(0), tuple(map(str, range(NEW + HELD)))
    for at in range(0, len(keys), HELD):
        there = torch.ones(HELD, dtype=torch.bool)
        audio = torch.randn(HELD, *shape[:2], generator=some).half()
        visual = torch.randn(HELD, *shape[2:], generator=some).half()
        store.add(Features(keys[at : at + HELD], audio, visual, there, there.clone()), {})
    return store.rows(keys, keys)


def _timed(step: Callable[[], Any]) -> list[float]:
    """CPU seconds of each step but the first."""
    stamps = []
    for _ in range(STEPS + 1):
        began = time.process_time()
        step()
        stamps.append(time.process_time() - began)
    return stamps[1:]


def main(*asked: str) -> None:
    if not asked:
        print(json.dumps(measure(), indent=1))
        return
    what, name = asked
    found = plain_step(SHAPES[name], PART[name]) if what == "plain" else l3_step(SHAPES[name])
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
