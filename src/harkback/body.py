"""What stands between the tokens and the head of a network: the interface of a body, and what bodies share."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from harkback.features import Features
from harkback.parallel import Draw, Share
from harkback.standard import Standard


class Look(Protocol):
    """Where a body looked."""

    @property
    def vectors(self) -> Tensor:
        """(clips, ..., visual_dim) attended tokens, standardised"""
        ...

    def heat(self) -> Tensor:
        """(clips, frames, patches) the share of the whole look that fell on each patch; sums to one over a clip."""
        ...

    def over(self, share: Share) -> Look:
        """The look of all clips, if this is that of one process's share of them."""
        ...


class Gathered:
    """What several processes looked at. It is put together each time it is asked for: most losses never ask."""

    def __init__(self, own: Look, share: Share) -> None:
        self._own, self._share = own, share

    @property
    def vectors(self) -> Tensor:
        return self._share.whole(self._own.vectors)

    def heat(self) -> Tensor:
        return self._share.whole(self._own.heat())

    def over(self, share: Share) -> Look:
        return Gathered(self, share)


class Seen(NamedTuple):
    """What a body makes of some clips."""

    audio: Tensor  #: (clips, width) projected sound; zero where unheard
    visual: Tensor  #: (clips, width) projected attended picture; zero where unseen
    fused: Tensor  #: (clips, width) f = audio + visual
    read: Tensor  #: (clips, width) what the head reads of f
    looked: Look | None  #: None: not guided


class Body(Protocol):
    """Tokens -> the vectors that a head reads and that distillation holds on to."""

    width: int  #: of those vectors
    audio_standard: Standard
    visual_standard: Standard

    def __call__(self, features: Features, draw: Draw | None) -> Seen:
        """draw: what dropout draws by while training; None: no dropout."""
        ...


def new_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer whose first values come from the generator: torch's own is not ours to move."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def drop(x: Tensor, share: float, draw: Draw | None) -> Tensor:
    """Dropout by what is drawn; None: not training.

    x: (clips, width), or (clips, heads, width), of which all heads lose the same channels: drawing is not free.
    """
    if draw is None or share == 0:
        return x
    keep = draw(*(1,) * (x.dim() - 2), x.shape[-1]).ge_(share)
    return x * keep.div_(1 - share).to(x.device)
