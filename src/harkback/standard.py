"""Fixed standardisation of tokens: measured on the first clips that are learnt, and kept ever after."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harkback.buffer import reading
from harkback.features import FeatureRows
from harkback.parallel import add_up, shared

CHUNK = 2**17  #: numbers that are summed at a time, in double precision: they stay in the cache


class Standard(nn.Module):
    """Mean and scale of each channel of the tokens."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return (tokens - self.mean) / self.scale

    def measure(self, total: Tensor, squares: Tensor, count: int) -> None:
        """total, squares: (dim,) float64 sums of the tokens and of their squares; count: how many tokens."""
        if count:
            mean = total / count
            self.mean.copy_(mean)
            # A channel that never moved in the first session must not explode when it does later.
            self.scale.copy_((squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(1e-2))


@torch.no_grad()
def measure(rows: FeatureRows, audio: Standard, visual: Standard) -> None:
    """Set both from the tokens of these clips, where they are there. Every process adds its share of the clips up."""
    shape = rows.shape
    sums = [torch.zeros(2, dim, dtype=torch.float64) for dim in (shape.audio_dim, shape.visual_dim)]
    counts = torch.zeros(2, dtype=torch.long)
    for _, part in reading(shared(len(rows)).once_each(rows)):
        for i, (tokens, there) in enumerate(((part.audio, part.heard), (part.visual, part.seen))):
            flat = tokens[there].flatten(0, -2)
            for some in flat.split(max(1, CHUNK // flat.shape[1])):
                exact = some.double()
                sums[i][0] += exact.sum(0)
                sums[i][1] += exact.square_().sum(0)
            counts[i] += len(flat)
    for array in (*sums, counts):
        add_up(array)
    for standard, (total, squares), count in zip((audio, visual), sums, counts.tolist(), strict=True):
        standard.measure(total, squares, count)
