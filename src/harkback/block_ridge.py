"""Ridge regression on blocks of columns, and what it would say of a clip had it not learnt that clip."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harkback.blocks import Block, scales
from harkback.moments import Moments


class Centred:
    """Moments less their means, per clip: what regressions that differ in their scales alone have in common."""

    def __init__(self, moments: Moments) -> None:
        self.total, self.mean, self.share = moments.total, moments.mean, moments.counts / moments.total
        self.spread = moments.products / self.total
        self.spread.addr_(self.mean, self.mean, alpha=-1)  #: (columns, columns)
        self.cross = moments.sums.T / self.total - self.mean.outer(self.share)  #: (columns, classes)


class BlockRidge:
    """One-hot classes on vectors that are centred and scaled block by block; all of it from sums over clips."""

    def __init__(self, centred: Centred, blocks: Iterable[Block], penalty: float) -> None:
        """penalty: weight of the squared coefficients, per clip."""
        self.total, self.mean, self.share = centred.total, centred.mean, centred.share
        self.scale = scales(centred.spread.diagonal(), blocks)
        gram = centred.spread * self.scale
        gram *= self.scale[:, None]
        gram.diagonal().add_(penalty)
        self._factor = torch.linalg.cholesky(gram)
        self._cross = self.scale[:, None] * centred.cross

    def fit(self) -> tuple[Tensor, Tensor]:
        """weight (columns, classes) and bias (classes,) for vectors as they come."""
        weight = self.scale[:, None] * torch.cholesky_solve(self._cross, self._factor)
        return weight, self.share - self.mean @ weight

    def left_out(self, x: Tensor, learnt: Tensor, targets: Tensor) -> Tensor:
        """(clips, classes) scores of clips, each as if it had not been learnt.

        x: (clips, columns) their vectors now; learnt: as they were learnt. Those of a moving look may differ. With t
        the answer and y the label of the clip as learnt, h its leverage, and g that between x and it:

            t(x) - g (y - t) / (1 - h)

        which for x = learnt is the usual (t - h y) / (1 - h), and is what fitting anew without the clip comes to (but
        for the scales, of which it stays part).
        """
        half, answer = self._asked(learnt)
        y = one_hot(targets, len(self.share)).double() - self.share
        lever = half.square().sum(0)[:, None] + 1 / self.total
        wrong = (y - answer) / (1 - lever).clamp_min(1e-6)
        if x is learnt:
            return self.share + answer - lever * wrong
        now, said = self._asked(x)
        between = (now * half).sum(0)[:, None] + 1 / self.total
        return self.share + said - between * wrong

    def strangeness(self, x: Tensor) -> Tensor:
        """(clips,) logarithm of the leverage that each clip x (clips, columns) would have: how far it is from all else.

        Leverage is x A^-1 x, with A the normal matrix of the regression: Mahalanobis distance from all that was learnt.
        """
        half, _ = self._asked(x)
        return (half.square().sum(0) + 1 / self.total).log()

    def left_out_strangeness(self, x: Tensor, learnt: Tensor) -> Tensor:
        """(clips,) the same of learnt clips, had they not been: log(h(x) + g^2 / (1 - h)), with h and g as above."""
        (half, _), (now, _) = self._asked(learnt), self._asked(x)
        lever, between = (parts.sum(0) + 1 / self.total for parts in (half.square(), now * half))
        return (now.square().sum(0) + 1 / self.total + between.square() / (1 - lever).clamp_min(1e-6)).log()

    def _asked(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(columns, clips) whose inner products are leverages; (clips, classes) answers less the classes' shares."""
        z = (x - self.mean) * self.scale
        half = torch.linalg.solve_triangular(self._factor, z.T, upper=False)
        if len(x) < len(self.share):  # Solve for the clips or for the classes, whichever are fewer.
            answer = torch.linalg.solve_triangular(self._factor.T, half, upper=True).T @ self._cross
        else:
            answer = half.T @ torch.linalg.solve_triangular(self._factor, self._cross, upper=False)
        return half / self.total.sqrt(), answer
