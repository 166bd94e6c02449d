"""Ridge regressions on blocks of columns, and what they would say of a clip had they not learnt that clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import solve_triangular
from torch.nn.functional import one_hot

from harkback.blocks import Block, scales
from harkback.moments import Moments, factorised
from harkback.triangle import add_products

AT_ONCE = 64  #: rows of a matrix that are worked on at once: those stay in the cache


class Asked(NamedTuple):
    """Clips as far as they are the same to all regressions that differ in a share alone."""

    half: Tensor  #: (clips, standing columns) z L^-T: inner products of such are leverages
    rest: Tensor  #: (clips, moving columns) what the standing columns leave of the others
    answer: Tensor  #: (clips, classes) by the standing columns


class Normal:
    """The normal equations of one-hot classes on vectors that are centred and scaled block by block; per clip.

    From sums over clips alone. What blocks that move weigh is multiplied by a share s. With F the Gram matrix of the
    columns that stand, penalty and all, M that of those that move, at a share of 1, and C between them,

        [ F           sqrt(s) C ]   [ L           0   ] [ L'  sqrt(s) B ]
        [ sqrt(s) C'  s M + p I ] = [ sqrt(s) B'  L_s ] [ 0   L_s'      ],   B = L^-1 C,  L_s L_s' = s (M - B' B) + p I

    so only the last of these, is factorised for each share.
    """

    def __init__(self, moments: Moments, blocks: Sequence[Block], penalty: float) -> None:
        """penalty: weight of the squared coefficients, per clip."""
        self.penalty, self.total, self.mean = penalty, moments.total, moments.mean
        self.share = moments.counts / self.total  #: (classes,) of the clips
        self.scale = scales(moments.products.diagonal() / self.total - self.mean.square(), blocks)
        moves = torch.cat([torch.full((block.columns,), block.moves) for block in blocks])
        self.standing, self.moving = (~moves).nonzero().flatten(), moves.nonzero().flatten()
        stand, move = self.standing, self.moving
        gram = self._gram(moments.products, stand, stand)
        gram.diagonal().add_(penalty)
        self.factor = factorised(gram)  #: L
        self.across = solve_triangular(self.factor, self._gram(moments.products, stand, move), upper=False)  #: B
        self.rest = add_products(self._gram(moments.products, move, move), self.across, -1)  #: M - B' B, lower triangle
        cross = self.scale[:, None] * (moments.sums.T / self.total - self.mean.outer(self.share))
        self.aims = solve_triangular(self.factor, cross[stand], upper=False)  #: (standing columns, classes)
        self.rest_aims = cross[move] - self.across.T @ self.aims  #: (moving columns, classes)

    def _gram(self, products: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """(rows, columns) of the Gram matrix of what is centred and scaled, at a share of 1."""
        gram = torch.empty(len(rows), len(columns), dtype=torch.float64)
        middle, left, right = self.mean * self.scale, self.scale / self.total, self.scale[columns]
        for some, part in zip(rows.split(AT_ONCE), gram.split(AT_ONCE), strict=True):
            torch.index_select(products[some], 1, columns, out=part).mul_(right).mul_(left[some, None])
            part.addr_(middle[some], middle[columns], alpha=-1)
        return gram

    def ask(self, x: Tensor) -> Asked:
        """x: (clips, columns) vectors as they come."""
        z, rest = (x[:, some].sub_(self.mean[some]).mul_(self.scale[some]) for some in (self.standing, self.moving))
        half = solve_triangular(self.factor.T, z, upper=True, left=False)
        return Asked(half, rest.addmm_(half, self.across, alpha=-1), half @ self.aims)


class BlockRidge:
    """The regression at a share: what the moving blocks weigh is multiplied by it."""

    def __init__(self, normal: Normal, share: float) -> None:
        self.normal, self._root = normal, share**0.5
        gram = share * normal.rest
        gram.diagonal().add_(normal.penalty)
        self._factor = factorised(gram)

    def fit(self) -> tuple[Tensor, Tensor]:
        """weight (columns, classes) and bias (classes,) for vectors as they come."""
        n = self.normal
        moving = self._root * solve_triangular(self._factor.T, self._aims(), upper=True)
        standing = solve_triangular(n.factor.T, n.aims - n.across @ moving, upper=True)
        weight = torch.empty(len(n.scale), len(n.share), dtype=torch.float64)
        weight[n.standing], weight[n.moving] = standing, moving
        weight *= n.scale[:, None]
        return weight, n.share - n.mean @ weight

    def left_out(self, now: Asked, learnt: Asked, targets: Tensor) -> Tensor:
        """(clips, classes) scores of clips, each as if it had not been learnt.

        now: the clips as they are asked; learnt: as they were learnt. Those of a moving look may differ. With t the
        answer and y the label of the clip as learnt, h its leverage, and g that between x, as asked, and it:

            t(x) - g (y - t) / (1 - h)

        which for x as learnt is the usual (t - h y) / (1 - h), and is what fitting anew without the clip comes to (but
        for the scales, of which it stays part).
        """
        n = self.normal
        half = self._half(learnt)
        answer = self._answer(learnt, half)
        y = one_hot(targets, len(n.share)).double() - n.share
        lever = self._between(learnt, half, learnt, half)[:, None]
        wrong = (y - answer) / (1 - lever).clamp_min(1e-6)
        if now is learnt:
            return n.share + answer - lever * wrong
        here = self._half(now)
        return n.share + self._answer(now, here) - self._between(now, here, learnt, half)[:, None] * wrong

    def strangeness(self, asked: Asked) -> Tensor:
        """(clips,) logarithm of the leverage that each clip would have: how far it is from all else.

        Leverage is x A^-1 x, with A the normal matrix of the regression: Mahalanobis distance from all that was learnt.
        """
        half = self._half(asked)
        return self._between(asked, half, asked, half).log()

    def left_out_strangeness(self, now: Asked, learnt: Asked) -> Tensor:
        """(clips,) the same of learnt clips, had they not been: log(h(x) + g^2 / (1 - h)), with h and g as above."""
        half, here = self._half(learnt), self._half(now)
        lever, between = self._between(learnt, half, learnt, half), self._between(now, here, learnt, half)
        return (self._between(now, here, now, here) + between.square() / (1 - lever).clamp_min(1e-6)).log()

    def _half(self, asked: Asked) -> Tensor:
        """(clips, moving columns): what `Asked.half` is of the others."""
        half: Tensor = solve_triangular(self._factor.T, asked.rest, upper=True, left=False)
        return half.mul_(self._root)

    def _aims(self) -> Tensor:
        """(moving columns, classes): what `Normal.aims` are of the others."""
        aims: Tensor = solve_triangular(self._factor, self.normal.rest_aims, upper=False)
        return aims.mul_(self._root)

    def _answer(self, asked: Asked, half: Tensor) -> Tensor:
        """(clips, classes) less the classes' shares."""
        if len(half) >= len(self.normal.share):  # Solve for the clips or for the classes, whichever are fewer.
            own = half @ self._aims()
        else:
            own = self._root * solve_triangular(self._factor, half, upper=False, left=False) @ self.normal.rest_aims
        return asked.answer + own

    def _between(self, one: Asked, half: Tensor, other: Asked, other_half: Tensor) -> Tensor:
        """(clips,) leverage between each clip and another."""
        return ((one.half * other.half).sum(1) + (half * other_half).sum(1) + 1) / self.normal.total
