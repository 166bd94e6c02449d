"""Ridge regression in which every class weighs the same, however many clips it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.moments import Moments, regression, with_room
from harkback.pooling import add_pooled, pooled


@dataclass(frozen=True, slots=True)
class BalancedRidgeSettings:
    penalty: float = 0.1  #: weight of the squared coefficients, per clip and standardised column


class BalancedRidge(Learner[BalancedRidgeSettings]):
    """`ridge` with a clip of class c weighing w_c = 1 / n_c: the analytic imbalance rectifier (AIR, arXiv 2408.10349).

    The paper scales the w_c to mean 1; a common factor changes nothing here, since the penalty is per unit of weight.
    Deviations: vectors are standardised (by the weighted mean and variance) and not lifted; and the paper keeps a Gram
    matrix of each class, we keep one of all. That is exact, and blind to any order, while each class comes in one
    session, whose n_c is known. When a class comes again its old products would have to be scaled down, and they are no
    longer known apart: its mean is exact all the same, and its scatter is taken to be the average of all classes'.
    """

    Settings = BalancedRidgeSettings
    FITTED: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(self, settings: BalancedRidgeSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        if not self.settings.penalty > 0:
            raise HarkbackError("the penalty of balanced-ridge must be above 0", mend="0.1 is the default")
        self.counts = torch.zeros(0, dtype=torch.float64)  #: (classes,) how many clips
        self.moments = Moments()  #: in which every class weighs 1
        self.weight = torch.zeros(0, 0, dtype=torch.float64)  #: (columns, classes)
        self.bias = torch.zeros(0, dtype=torch.float64)  #: (classes,)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        fresh = targets.bincount(minlength=len(self.classes)).double()
        known, self.counts = len(self.counts), with_room(self.counts, len(self.classes)) + fresh
        share = (fresh / self.counts)[:known]
        if share.any():
            _fade(self.moments, share)
        add_pooled(self.moments, features, targets, len(self.classes), weight=1 / self.counts)
        self.weight, self.bias = regression(self.moments, self.settings.penalty)

    def absorb(self, other: BalancedRidge, columns: Tensor) -> None:
        """Of classes that one of the two has: the products of a class are not known apart, to be weighed anew."""
        if (columns < len(self.counts)).any():
            what = "two of balanced-ridge that both have learnt a class cannot be merged"
            raise HarkbackError(what, mend="teach each class to one of them, or take ridge")
        self.counts = with_room(self.counts, len(self.classes)).index_add_(0, columns, other.counts)
        self.moments.merge(other.moments, columns, len(self.classes))
        self.weight, self.bias = regression(self.moments, self.settings.penalty)

    def _scores(self, features: Features) -> Tensor:
        return pooled(features) @ self.weight + self.bias


def _fade(moments: Moments, share: Tensor) -> None:
    """Take ``share`` (classes,) off each class, which weighs 1: what its new clips will weigh.

    Its scatter is taken to be the average one.
    """
    average = moments.within.div_(len(share))
    moments.products.addmm_((share[:, None] * moments.means).T, moments.means, alpha=-1)
    moments.products.sub_(average, alpha=float(share.sum()))
    moments.sums *= 1 - share[:, None]
    moments.counts *= 1 - share
