"""Where networks are trained: on the CPU, or on a GPU, to which the tokens are carried.

Only the body of a network, which reads the tokens, is computed there. Its vectors come back, and heads, losses and
memories stay on the CPU, where they cost next to nothing: no learner needs to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.parallel import here, processes

_chosen = torch.device("cpu")


def training_device() -> torch.device:
    """Where networks that are built from now on have their bodies."""
    return _chosen


def named(name: str | None, flag: str, *, elsewhere: bool = False) -> torch.device:
    """The CPU (None), or one of this machine's GPUs, like ``cuda`` or ``cuda:1``; `HarkbackError` for any other.

    elsewhere: networks are trained on other machines, of which nothing is known here but that each has its own "cuda".
    """
    if name is None:
        return torch.device("cpu")
    if elsewhere:
        if name in ("cpu", "cuda"):
            return torch.device(name)
        raise HarkbackError(f'"{name}" is no device of every machine', where=flag, mend="use cpu or cuda")
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
        if found.type in ("cpu", "cuda"):
            return found
    except (RuntimeError, AssertionError):
        pass
    here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    raise HarkbackError(f'networks cannot be trained on "{name}" here', where=flag, mend=f"use {', '.join(here)}")


def beside(device: torch.device) -> torch.device:
    """Where this process trains: of several on one machine each takes another GPU, unless one is named for all."""
    if device.type != "cuda" or device.index is not None or processes() == 1:
        return device
    return torch.device("cuda", here() % torch.cuda.device_count())


@contextmanager
def training_on(device: torch.device) -> Iterator[None]:
    """For the length of a ``with`` block."""
    global _chosen
    before, _chosen = _chosen, device
    try:
        yield
    finally:
        _chosen = before


def carried(features: Features, device: torch.device) -> Features:
    """The same features there; those that are there already are not copied."""
    if device.type == "cpu":
        return features
    names = ("audio", "visual", "heard", "seen")
    return replace(features, **{name: getattr(features, name).to(device, non_blocking=True) for name in names})
