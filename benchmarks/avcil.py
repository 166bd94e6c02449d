"""A training step of `avcil` beside the same step written plainly: `python -m benchmarks.avcil [PATCHES NEW HELD]`.

Both take the same batch from memory, new clips and exemplars, begin with the same weights and take turns; that they
do the same is seen by their losses. Only steps are timed: no reading, and not what is asked of the teacher once a
session. One thread. With 196 patches the plain step of a whole batch needs over 20 GB: ask for `196 32 16`, and take
it times eight.

How much of its time the plain step spends on fresh memory depends on the allocator. Told to keep what it has, it needs
two thirds: `MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=4294967296`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from benchmarks.machine import peak_memory, threads
from benchmarks.plain_avcil import PlainStep, Shape
from harkback.features import Features, TokenShape, join
from harkback.learners.avcil import AVCIL
from harkback.network import Network
from harkback.stream import Session

NEW, HELD = 256, 128  #: clips of a batch, as the paper has
FRAMES, PATCHES, DIM = 8, 16, 768
CLASSES = 8  #: of each of two sessions
STEPS = 6  #: the first is not counted: memory is fresh


def noise(clips: int, shape: TokenShape, seed: int) -> Features:
    """As a store holds them: in half precision."""
    some, there = torch.Generator().manual_seed(seed), torch.ones(clips, dtype=torch.bool)
    audio, visual = (torch.randn(clips, *size, generator=some).half() for size in (shape[:2], shape[2:]))
    return Features(tuple(f"{seed}-{i}" for i in range(clips)), audio, visual, there, there.clone())


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


class Beside:
    """Times every step of a learner that is being taught, and takes a plain step after each."""

    def __init__(self, learner: AVCIL, batch: Features, targets: Tensor, exemplars: Tensor) -> None:
        """batch: its clips, in any order; targets: (clips,) long; exemplars: (clips,) bool."""
        self.network, body = learner.network, learner.network.body
        shape = batch.shape
        self.plain = PlainStep(Shape(shape.audio_dim, *shape[2:]), CLASSES, CLASSES, seed=0)
        load(self.plain.teacher, self.network)
        with torch.no_grad():  # The plain network knows no standardisation.
            audio = body.audio_standard(batch.audio.float().mean(1))
            self.batch = audio, body.visual_standard(batch.visual.float()), targets, exemplars
        self.ours, self.plainly, self.losses = list[float](), list[float](), list[float]()
        self.began: float | None = None
        self.hooks = [
            self.network.register_forward_pre_hook(self.begin),
            register_optimizer_step_post_hook(self.end),
        ]

    def begin(self, *_: Any) -> None:
        if torch.is_grad_enabled():
            if not self.ours:
                load(self.plain.network, self.network)
            self.began = time.process_time()

    def end(self, optimizer: Optimizer, *_: Any) -> None:
        if optimizer is not self.plain.optimizer and self.began is not None:
            self.ours.append(time.process_time() - self.began)
            self.plainly.append(timed(lambda: self.losses.append(self.plain.step(*self.batch))))

    def stop(self) -> None:
        for hook in self.hooks:
            hook.remove()


def load(plain: nn.Module, network: Network) -> None:
    """Give a plain network the weights of ours."""
    ours = {name.removeprefix("body.").removeprefix("attention."): x for name, x in network.state_dict().items()}
    plain.load_state_dict({name: ours[name] for name in plain.state_dict()})


def products(clips: int, tokens: int) -> Callable[[], None]:
    """The two products of matrices that a step cannot do without: patches by weights, their gradients by patches."""
    patches, weight = torch.randn(clips * tokens, DIM), torch.randn(DIM, DIM)
    out = torch.empty_like(patches)

    def both() -> None:
        torch.mm(patches, weight, out=out)
        torch.mm(out.T, patches, out=weight)
        weight.div_(weight.norm())

    return both


def measure(patches: int = PATCHES, new: int = NEW, held: int = HELD) -> dict[str, float]:
    """CPU seconds a step, and their ratios; ``held`` is a multiple of the classes of a session."""
    shape = TokenShape(1, DIM, FRAMES, patches, DIM)
    clips = [noise(count, shape, seed) for seed, count in enumerate((held, new))]
    labels = [[f"class {CLASSES * s + i % CLASSES}" for i in range(len(part))] for s, part in enumerate(clips)]
    train = replace(AVCIL.Settings().train, epochs=1, batch=new, replay=held)
    network = replace(AVCIL.Settings().network, width=DIM)
    learner = AVCIL(replace(AVCIL.Settings(), network=network, train=train), memory=held)
    with threads(1):
        learner.learn(Session.of(clips[0], labels[0]))
        learner.settings = replace(learner.settings, train=replace(train, epochs=STEPS))  # One step an epoch.
        exemplars = learner.memory.features
        assert exemplars is not None and len(exemplars) == held
        targets = torch.tensor([CLASSES + i % CLASSES for i in range(new)])
        targets = torch.cat([targets, learner.memory.targets])
        beside = Beside(learner, join([clips[1], exemplars]), targets, torch.arange(new + held) >= new)
        learner.learn(Session.of(clips[1], labels[1]))
        beside.stop()
        both = products(new + held, FRAMES * patches)
        floor = min(timed(both) for _ in range(4))
    ours, plainly = statistics.median(beside.ours[1:]), statistics.median(beside.plainly[1:])
    return {
        "ours_cpu_seconds": ours,
        "plain_cpu_seconds": plainly,
        "cheaper_than_plain": plainly / ours,
        "two_products_cpu_seconds": floor,
        "times_two_products": ours / floor,
        "losses_apart": max(abs(a / b - 1) for a, b in zip(learner.losses, beside.losses, strict=True)),
        "peak_resident_mb_of_both": peak_memory(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:])), indent=1))
