"""Audio-guided visual attention in closed form: the sound foretells the patch, and the look goes to what is like it.

Nothing here is trained by gradients. A regression from the sound says what the patch that goes with it looks like; a
patch is looked at for its likeness to that, measured against how patches vary anyhow. All of it comes from sums over
clips, so old classes go on guiding the look exactly as well as when they came.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harkback.blocks import Block, scales
from harkback.moments import Kept, Moments

HINT = 10.0  #: penalty of the regression from sound to patch: few clips tell little, and a vague hint points well
RIDGE = 0.3  #: added to the variance of the patches in each direction, as a share of the mean variance
SHARP = 3.0  #: weight of a patch that is one deviation (of the clip's patches) more alike: e^3


class Patches(Kept):
    """How single patches vary, over all clips: what is common is no sign of anything."""

    def __init__(self) -> None:
        self.count = torch.zeros((), dtype=torch.float64)
        self.sum = torch.zeros(0, dtype=torch.float64)  #: (dim,)
        self.products = torch.zeros(0, 0, dtype=torch.float64)  #: (dim, dim)

    @classmethod
    def of(cls, patches: Tensor) -> Patches:
        """patches: (clips, patches, dim) float32."""
        made, flat = cls(), patches.flatten(0, 1)
        made.count = made.count + len(flat)
        made.sum, made.products = flat.double().sum(0), (flat.T @ flat).double()
        return made

    def add(self, others: Patches, sign: int = 1) -> None:
        """sign: -1 takes them away again."""
        if not len(self.sum):
            self.sum, self.products = torch.zeros_like(others.sum), torch.zeros_like(others.products)
        self.count = self.count + sign * others.count
        self.sum = self.sum + sign * others.sum
        self.products = self.products + sign * others.products

    @property
    def mean(self) -> Tensor:
        """(dim,)"""
        return self.sum / self.count.clamp_min(1)

    def against(self, expected: Tensor) -> Tensor:
        """(clips, dim) the direction in which a patch is like the expected one and unlike patches in general.

        expected: (clips, dim) less the mean patch. Sigma^-1 expected, with Sigma the covariance of patches: up to what
        is the same for all patches, the logarithm of how much likelier a patch is to be the expected one than any
        other (two normal distributions with one covariance).
        """
        mean = self.mean
        spread = self.products / self.count.clamp_min(1) - torch.outer(mean, mean)
        typical = spread.diagonal().mean()
        spread.diagonal().add_(RIDGE * typical if typical > 0 else 1.0)
        direction: Tensor = torch.linalg.solve(spread, expected.T).T
        return direction


class Foretelling:
    """Ridge regression from what is heard to what is looked at, over all former sessions and the clips of this one.

    moments: of former sessions' vectors, which begin with what was heard and, next to it, what was looked at. The
    clips' ``heard`` (clips, columns) are part of it from the start, what they look at is given anew each time.
    """

    def __init__(self, moments: Moments, heard: Tensor, dim: int, blocks: Sequence[Block]) -> None:
        columns = heard.shape[1]
        if len(moments.counts):
            sums, products = moments.sums.sum(0), moments.products
            self._count = float(moments.total) + len(heard)
        else:
            sums, products = heard.new_zeros(columns + dim), heard.new_zeros(columns + dim, columns + dim)
            self._count = float(len(heard))
        looked = slice(columns, columns + dim)
        self._sum, self._products = sums[looked], products[:columns, looked]
        self._heard = heard
        self._middle = (sums[:columns] + heard.sum(0)) / self._count
        spread = (products[:columns, :columns] + heard.T @ heard) / self._count - self._middle.outer(self._middle)
        self._scale = scales(spread.diagonal(), blocks)
        gram = self._scale[:, None] * spread * self._scale
        energy = gram.diagonal().sum()
        gram.diagonal().add_(HINT * energy / self._count if energy > 0 else 1.0)
        self._factor = torch.linalg.cholesky(gram)
        z = (heard - self._middle) * self._scale
        self._leverage = (z * torch.cholesky_solve(z.T, self._factor).T).sum(1, keepdim=True) / self._count

    def fit(self, looked: Tensor) -> tuple[Tensor, Tensor]:
        """(columns, dim) and (dim,): what sounds foretell is heard @ the first + the second. looked: (clips, dim)"""
        mean = (self._sum + looked.sum(0)) / self._count
        cross = (self._products + self._heard.T @ looked) / self._count - self._middle.outer(mean)
        slope = self._scale[:, None] * torch.cholesky_solve(self._scale[:, None] * cross, self._factor)
        return slope, mean - self._middle @ slope

    def left_out(self, looked: Tensor) -> Tensor:
        """(clips, dim) what the sound of each clip foretells when that clip is no part of the regression.

        (y - h t) / (1 - h), with h the clip's leverage, which is what fitting anew without it comes to (but for the
        mean, from which it is not left out).
        """
        mean = (self._sum + looked.sum(0)) / self._count
        return mean + (self(looked) - mean - self._leverage * (looked - mean)) / (1 - self._leverage)

    def __call__(self, looked: Tensor) -> Tensor:
        """(clips, dim) what the sound of each clip foretells."""
        slope, bias = self.fit(looked)
        return self._heard @ slope + bias


def shares(direction: Tensor, patches: Tensor) -> Tensor:
    """(clips, patches) the share of the look that falls on each patch; even where the direction is zero.

    direction: (clips, dim); patches: (clips, patches, dim) float32. Likeness is counted in deviations over the clip's
    own patches, so how sharp the look is does not depend on the encoder.
    """
    likeness = torch.einsum("npd,nd->np", patches, direction.float())
    likeness = likeness - likeness.mean(1, keepdim=True)
    deviation = likeness.square().mean(1, keepdim=True).sqrt()
    # Patches that differ by rounding alone are alike: no such difference may become a look.
    rounding = 1e-5 * direction.float().norm(dim=1) * patches.norm(dim=2).amax(1)
    return (SHARP * likeness / deviation.maximum(rounding[:, None]).clamp_min(1e-30)).softmax(1)


def attended(weight: Tensor, patches: Tensor) -> Tensor:
    """(clips, dim) float64 the mean of the patches (clips, patches, dim) by their shares (clips, patches)."""
    return torch.einsum("np,npd->nd", weight, patches).double()
