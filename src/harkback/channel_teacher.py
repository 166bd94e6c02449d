"""What a frozen network of AV-CIL attends to: asked once, and remembered where that fits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

REMEMBERED = 1 << 27  #: numbers of S that are remembered, half a GB in float32; of more clips it is asked every time


class Projection(NamedTuple):
    """How a patch is seen: tanh(weight v + bias), of raw tokens."""

    weight: Tensor  #: (visual_dim, visual_dim)
    bias: Tensor  #: (visual_dim,)

    def __call__(self, patches: Tensor) -> Tensor:
        """V~: (..., patches, visual_dim)"""
        patches = patches.to(self.weight.dtype)
        return self.bend(self.product(patches, torch.empty_like(patches)))

    def product(self, patches: Tensor, out: Tensor) -> Tensor:
        """weight v alone, written to ``out``; both (..., patches, visual_dim). To be handed to `bend`."""
        torch.mm(patches.flatten(0, -2), self.weight.T, out=out.flatten(0, -2))
        return out

    def bend(self, product: Tensor) -> Tensor:
        """V~ in the place of what `product` gave: in the cache, a sum costs less than in the product of matrices."""
        return product.add_(self.bias).tanh_()


class Teacher:
    """Where a frozen network looks in each of some clips, and when."""

    def __init__(self, query: Tensor, temporal: Tensor, how: Projection, tokens: Tensor) -> None:
        """query: (clips, visual_dim) a~; temporal: (clips, frames, visual_dim) T; tokens: of these clips, raw."""
        self.query, self.temporal, self.how = query, temporal, how
        self.known: tuple[Tensor, Tensor] | None = None
        if tokens.numel() <= REMEMBERED:
            spatial, entropy = query.new_empty(tokens.shape), torch.empty_like(temporal)
            for clip, patches in enumerate(tokens):
                spatial[clip], entropy[clip] = self._ask(clip, patches)
            self.known = spatial, entropy

    def __call__(self, clip: int, frames: slice, patches: Tensor) -> tuple[Tensor, Tensor]:
        """S (frames, patches, visual_dim) and sum_p S log S (frames, visual_dim) in some frames of a clip.

        patches: (frames, patches, visual_dim) these frames of the clip, raw.
        """
        if self.known is None:
            return self._ask(clip, patches)
        spatial, entropy = self.known
        return spatial[clip, frames], entropy[clip, frames]

    def _ask(self, clip: int, patches: Tensor) -> tuple[Tensor, Tensor]:
        bent = self.how(patches)
        share = (bent * self.query[clip]).exp_()
        total = share.sum(1)
        share.div_(total[:, None])
        return share, bent.mul_(share).sum(1).mul_(self.query[clip]).sub_(total.log_())
