"""Columns of a clip's vector that weigh together: each block as much as it should, however many columns it has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Block(NamedTuple):
    """Some neighbouring columns."""

    columns: int
    weight: float  #: their summed variance, once scaled
    moves: bool = False  #: its weight is that much times a share which is chosen


def scales(variance: Tensor, blocks: Iterable[Block]) -> Tensor:
    """(columns,) what to multiply columns of this variance (columns,) by, so that each block has its weight.

    Columns of a block keep their sizes beside each other: one that hardly moves stays small. A block that never moved
    is left out.
    """
    parts, start = [], 0
    for block in blocks:
        energy = variance[start : start + block.columns].clamp_min(0).sum()
        factor = (block.weight / energy).sqrt() if energy > 1e-12 else torch.zeros_like(energy)
        parts.append(factor.expand(block.columns))
        start += block.columns
    return torch.cat(parts)
