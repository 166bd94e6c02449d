"""Batches for a GPU: while it works on one, the next is read and carried to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from typing import TypeVar

import torch
from torch import Tensor

from harkback.buffer import Buffer
from harkback.features import FeatureRows, Features

T = TypeVar("T")


class Batches:
    """Rows for a device, a batch of at most ``size`` at a time; each is valid until the next is asked for.

    Tokens are on the device; who is heard and seen stays on the CPU.
    """

    def __init__(self, rows: FeatureRows, size: int, device: torch.device) -> None:
        self._ahead = device.type != "cpu"  # There, reading ahead would take the core that learns.
        self._load = _carrier(rows, size, device) if self._ahead else Buffer(rows, size)

    def __call__(self, numbers: Iterable[Tensor]) -> Iterator[tuple[Tensor, Features]]:
        """Each batch of row numbers, and these rows."""
        return ahead(self._load, numbers) if self._ahead else ((batch, self._load(batch)) for batch in numbers)


def ahead(load: Callable[[Tensor], T], numbers: Iterable[Tensor]) -> Iterator[tuple[Tensor, T]]:
    """Each batch and what ``load`` makes of it, while the next is being loaded in a thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for batch in numbers:
            following = batch, pool.submit(load, batch)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _carrier(rows: FeatureRows, size: int, device: torch.device) -> Callable[[Tensor], Features]:
    """From the store to page-locked memory, of which copies do not stop the GPU, and from there to the device."""
    # Two: what the GPU still works on must not be written over. The copy itself is waited for, in the thread.
    buffers = cycle([Buffer(rows, size, pinned=True) for _ in range(2)])
    stream = torch.cuda.Stream(device)

    def load(batch: Tensor) -> Features:
        features = next(buffers)(batch)
        with torch.cuda.stream(stream):
            audio, visual = (x.to(device, non_blocking=True) for x in (features.audio, features.visual))
        stream.synchronize()
        for array in (audio, visual):
            array.record_stream(torch.cuda.default_stream(device))  # Who uses it; so it is not freed under its hands.
        return replace(features, audio=audio, visual=visual)

    return load
