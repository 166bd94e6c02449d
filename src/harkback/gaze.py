"""Audio-guided visual attention in closed form: the sound foretells the patch, and the look goes to what is like it.

Nothing here is trained by gradients. A regression from the sound says what the patch that goes with it looks like; a
patch is looked at for its likeness to that, measured against how patches vary anyhow. All of it comes from sums over
clips, so old classes go on guiding the look exactly as well as when they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from harkback.blocks import Block, scales
from harkback.moments import Kept, Moments, factorised, mirror, solved
from harkback.parallel import add_up
from harkback.triangle import add_products

HINT = 10.0  #: penalty of the regression from sound to patch: few clips tell little, and a vague hint points well
RIDGE = 0.3  #: added to the variance of the patches in each direction, as a share of the mean variance
AT_ONCE = 1 << 14  #: patches whose products are added up in float32
SHARP = 3.0  #: weight of a patch that is one deviation (of the clip's patches) more alike: e^3


class Patches(Kept):
    """How single patches vary, over all clips: what is common is no sign of anything."""

    def __init__(self) -> None:
        self.count = torch.zeros((), dtype=torch.float64)
        self.sum = torch.zeros(0, dtype=torch.float64)  #: (dim,)
        self.products = torch.zeros(0, 0, dtype=torch.float64)  #: (dim, dim)

    def add(self, others: Patches, sign: int = 1) -> None:
        """sign: -1 takes them away again."""
        if not len(self.sum):
            self.sum, self.products = torch.zeros_like(others.sum), torch.zeros_like(others.products)
        self.count = self.count + sign * others.count
        self.sum = self.sum + sign * others.sum
        self.products = self.products + sign * others.products

    def add_up(self) -> None:
        """Put the sums of all processes in their place."""
        for array in (self.count, self.sum, self.products):
            add_up(array)

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
        direction: Tensor = solved(factorised(spread), expected.T).T
        return direction


class Tally:
    """Counts patches that come a few clips at a time.

    Products are added up in float32 over `AT_ONCE` patches or a little more, and those sums in float64.
    """

    def __init__(self, dim: int) -> None:
        self._found = Patches()
        self._found.sum = torch.zeros(dim, dtype=torch.float64)
        self._found.products = torch.zeros(dim, dim, dtype=torch.float64)  # Its lower triangle.
        self._recent, self._waiting = torch.zeros(dim, dim), 0

    def add(self, patches: Tensor) -> None:
        """patches: (clips, patches, dim) float32."""
        flat = patches.flatten(0, 1)
        self._found.count += len(flat)
        self._found.sum += patches.sum(1).double().sum(0)
        add_products(self._recent, flat)
        self._waiting += len(flat)
        if self._waiting >= AT_ONCE:
            self._settle()

    def patches(self) -> Patches:
        """All that came so far."""
        self._settle()
        made = Patches()
        made.count, made.sum = self._found.count.clone(), self._found.sum.clone()
        made.products = mirror(self._found.products.clone())
        return made

    def _settle(self) -> None:
        self._found.products += self._recent
        self._recent.zero_()
        self._waiting = 0


class Foretelling:
    """Ridge regression from what is heard to what is looked at, over all former sessions and the clips of this one.

    moments: of former sessions' vectors, which begin with what was heard and, next to it, what was looked at. The
    clips' ``heard`` (clips, columns) are part of it from the start, what they look at is given anew each time.

    With A = L L' the normal matrix of all sounds z, centred and scaled, a clip foretells z A^-1 (sum of z' y): half of
    that, z L^-T, does not depend on where is looked, nor does what former sessions' clips have in the sum.
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
        self._sum = sums[looked]
        self._middle = (sums[:columns] + heard.sum(0)) / self._count
        gram = add_products(products[:columns, :columns].clone(), heard).div_(self._count)
        gram.addr_(self._middle, self._middle, alpha=-1)
        self._scale = scales(gram.diagonal(), blocks)
        gram.mul_(self._scale).mul_(self._scale[:, None])
        energy = gram.diagonal().sum()
        gram.diagonal().add_(HINT * energy / self._count if energy > 0 else 1.0)
        self._factor = factorised(gram)
        former = products[:columns, looked] - self._middle.outer(self._sum)
        self._former = self._solved(self._scale[:, None] * former / self._count)  #: (columns, dim) L^-1 sum
        z = (heard - self._middle).mul_(self._scale / sqrt(self._count))
        self._half = self._solved(z.T)  #: (columns, clips) L^-1 z'
        self._told = self._half.T @ self._former * sqrt(self._count)  #: (clips, dim) what former clips make foretold
        self._leverage = self._half.square().sum(0)[:, None]
        #: (clips, clips) leverage between them, unless that is more than a pass by way of the columns.
        self._between = self._half.T @ self._half if len(heard) <= columns else None

    def _solved(self, right: Tensor) -> Tensor:
        half: Tensor = torch.linalg.solve_triangular(self._factor, right, upper=False)
        return half

    def fit(self, looked: Tensor) -> tuple[Tensor, Tensor]:
        """(columns, dim) and (dim,): what sounds foretell is heard @ the first + the second. looked: (clips, dim)"""
        mean = (self._sum + looked.sum(0)) / self._count
        cross = self._former + self._half @ looked / sqrt(self._count)
        slope = self._scale[:, None] * torch.linalg.solve_triangular(self._factor.T, cross, upper=True)
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
        mean = (self._sum + looked.sum(0)) / self._count
        own = self._half.T @ (self._half @ looked) if self._between is None else self._between @ looked
        return mean + self._told + own


def shares(direction: Tensor, patches: Tensor) -> Tensor:
    """(clips, patches) the share of the look that falls on each patch; even where the direction is zero.

    direction: (clips, dim); patches: (clips, patches, dim) float32. Likeness is counted in deviations over the clip's
    own patches, so how sharp the look is does not depend on the encoder.
    """
    likeness = (patches @ direction.float()[:, :, None])[..., 0]
    likeness = likeness - likeness.mean(1, keepdim=True)
    deviation = likeness.square().mean(1, keepdim=True).sqrt()
    # Patches that differ by rounding alone are alike: no such difference may become a look.
    rounding = 1e-5 * direction.float().norm(dim=1) * patches.norm(dim=2).amax(1)
    return (SHARP * likeness / deviation.maximum(rounding[:, None]).clamp_min(1e-30)).softmax(1)


def attended(weight: Tensor, patches: Tensor) -> Tensor:
    """(clips, dim) float64 the mean of the patches (clips, patches, dim) by their shares (clips, patches)."""
    return (weight[:, None] @ patches)[:, 0].double()
