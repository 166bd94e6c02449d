"""Cells of time -> tokens that cover a clip evenly, as `TokenShape` promises."""

from __future__ import annotations

import torch
from torch import Tensor


def spread(tokens: int, cells: int, length: float) -> Tensor:
    """(tokens, cells) weights; row ``i`` averages the cells over ``[i, i + 1) / tokens`` of the clip.

    length: of the clip, in cells (``cells - 1 < length <= cells``: the last cell may be padded). Rows sum to one.
    """
    edges = torch.arange(tokens + 1, dtype=torch.float64) * (length / tokens)
    cell = torch.arange(cells, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], cell + 1) - torch.maximum(edges[:-1, None], cell)
    weight = overlap.clamp_min(0)
    return (weight / weight.sum(1, keepdim=True)).float()


def nearest(times: Tensor, wanted: Tensor) -> Tensor:
    """For each wanted second, the number of the time nearest to it; the earlier of two that are equally near."""
    return (wanted[:, None] - times[None].to(wanted.dtype)).abs().argmin(1)
