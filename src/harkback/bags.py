"""A clip's tokens as a bag: what they are like, whatever their order and number. Not trained, so never forgotten."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from harkback.blocks import Block
from harkback.lift import projection
from harkback.moments import Kept
from harkback.pieces import at_once
from harkback.standard import Standard

SPREAD = 0.5  #: deviation of the random features' thresholds, in deviations of a projected token


class Bag(Kept):
    """Mean of the tokens; mean and deviation, over the tokens, of random features ReLU(R t + b).

    The mean of random features of a set's members is a kernel mean embedding: it tells sets apart whose plain means are
    equal (Rahimi and Recht 2007; Muandet et al., arXiv 1605.09522, section 3). Their deviation tells what comes and
    goes from what is there all the time. Tokens are standardised, and vectors centred, by the first clips that have
    any; both stay as they are ever after, so that sums over clips go on meaning the same.
    """

    def __init__(self, features: int, seed: Tensor) -> None:
        """features: how many random features; seed: () long, of the features."""
        self.features = features
        self.seed = seed
        self.mean = torch.zeros(0)  #: (dim,) of the tokens; none: nothing was measured yet
        self.scale = torch.ones(0)  #: (dim,) their deviation
        self.middle = torch.zeros(0, dtype=torch.float64)  #: (columns,) mean of the vectors

    def measure(self, standard: Standard) -> None:
        """Take over the tokens' mean and deviation."""
        self.mean, self.scale = standard.mean.clone(), standard.scale.clone()

    def fix(self, raw: Tensor, there: Tensor) -> None:
        """Take the middle from the first clips that have any tokens. raw: (clips, columns); there: (clips,) bool"""
        if not len(self.middle) and there.any():
            self.middle = raw[there].mean(0)

    def standard(self, tokens: Tensor) -> Tensor:
        """(..., dim) float32 standardised tokens."""
        return (tokens.float() - self.mean).div_(self.scale)

    @property
    def columns(self) -> int:
        """Of what `raw` makes of a clip."""
        return len(self.mean) + 2 * self.features

    def numbers(self, tokens: int, dim: int) -> int:
        """How many numbers a clip of so many tokens comes to in `raw`."""
        return tokens * max(dim, self.features)

    def raw(self, tokens: Tensor) -> Tensor:
        """(clips, dim + 2 features) float64; tokens: (clips, tokens, dim) float32, standardised, of few clips.

        Of many, what is between two steps would not fit in the cache: `of` takes any number, `pieces` cuts clips.
        """
        if not self.features:
            return tokens.mean(1).double()
        weight, normal = _drawn(int(self.seed), tokens.shape[2], self.features)
        lifted = torch.addmm(SPREAD * normal, tokens.flatten(0, 1), weight).relu_().unflatten(0, tokens.shape[:2])
        mean = lifted.mean(1)
        spread = lifted.sub_(mean[:, None]).square_().mean(1).sqrt()
        return torch.cat([tokens.mean(1), mean, spread], 1).double()

    def of(self, tokens: Tensor) -> Tensor:
        """`raw` of tokens (clips, tokens, dim) as they come."""
        few = tokens.split(at_once(self.numbers(*tokens.shape[1:])))
        return torch.cat([self.raw(self.standard(some)) for some in few])

    def vector(self, raw: Tensor, there: Tensor) -> Tensor:
        """(clips, dim + 2 features + 1) centred, and whether there was anything: (clips,) bool.

        What is missing is zero: the middle of what is known, which says nothing.
        """
        centred = torch.where(there[:, None], raw - self.middle, 0.0) if len(self.middle) else torch.zeros_like(raw)
        return torch.cat([centred, there[:, None].double()], 1)

    def blocks(self, share: float = 1.0, *, moves: bool = False) -> list[Block]:
        """Of the vectors: plain mean, lifted mean, lifted deviation, whether there; ``share``: what all weigh."""
        lifted = Block(self.features, 0.5 * share, moves)
        return [Block(len(self.mean), 0.3 * share, moves), lifted, lifted, Block(1, 0.01)]


@lru_cache(maxsize=4)
def _drawn(seed: int, dim: int, features: int) -> tuple[Tensor, Tensor]:
    """R (dim, features) and, in units of `SPREAD`, b (features,): float32."""
    drawn = projection(seed, dim + 1, features).float()
    return drawn[:-1] / dim**0.5, drawn[-1]
