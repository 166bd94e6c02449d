"""Reading rows a batch at a time into memory that is allocated once.

Fresh memory costs a page fault every 4 KiB, which takes longer than to copy as much; and what is read into few bytes is
still in the cache when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from harkback.features import READ, Arrays, FeatureRows, Features, batches, room_for

CACHED = 2**24  #: bytes that stay in the cache between being read and being used


class Buffer:
    """Room for a batch of at most ``size`` rows. What it returns is valid until the next call."""

    def __init__(self, rows: FeatureRows, size: int, *, pinned: bool = False) -> None:
        """pinned: in page-locked memory, from which a GPU can copy by itself."""
        self.rows, self.ids = rows, rows.ids
        room = room_for(rows.shape, size, rows.dtype)
        self.room = Arrays(*(array.pin_memory() for array in room)) if pinned else room
        self.places = torch.arange(size)

    def __call__(self, batch: Tensor) -> Features:
        """The rows numbered ``batch`` (a long tensor), in that order, in the buffer."""
        count = len(batch)
        if count > len(self.places):
            raise ValueError(f"{count} rows, and room for {len(self.places)}")
        room = Arrays(*(array[:count] for array in self.room))
        self.rows.fill(batch, room, self.places[:count])
        return Features(tuple(self.ids[row] for row in batch.tolist()), *room)


def reading(rows: FeatureRows, size: int | None = None) -> Iterator[tuple[Tensor, Features]]:
    """Row numbers in order, and the rows, ``size`` at a time, in one buffer: valid until the next are asked for.

    size: none: `READ`, or as many as the cache holds.
    """
    if size is None:
        row = sum(array.nbytes for array in room_for(rows.shape, 1, rows.dtype))
        size = max(1, min(READ, CACHED // row))
    buffer = Buffer(rows, min(size, len(rows)))
    for batch in batches(len(rows), size):
        yield batch, buffer(batch)
