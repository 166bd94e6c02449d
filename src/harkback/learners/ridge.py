"""Ridge regression in closed form on the frozen tokens: exact, and blind to the order of the classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features, batches
from harkback.learners.base import Learner
from harkback.network import READ
from harkback.pooling import inverse_deviation, pooled, pooled_dim, with_room


@dataclass(frozen=True, slots=True)
class RidgeSettings:
    penalty: float = 0.1  #: weight of the squared coefficients, per clip and standardised column


class Ridge(Learner[RidgeSettings]):
    """W = (Z^T Z + n penalty I)^-1 Z^T Y, with Z the standardised pooled tokens and Y one-hot, both centred.

    Only sums are kept (of x, of x x^T, of x by class), so learning class by class gives what learning all at once
    gives: on frozen features the incremental solution is the joint one. Standardising and centring are done to the
    sums, when solving, by algebra; done to the clips they would depend on which came first. Float64 throughout.
    """

    Settings = RidgeSettings

    def __init__(self, settings: RidgeSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        if not self.settings.penalty > 0:
            raise HarkbackError("the penalty of ridge must be above 0", mend="0.1 is the default")
        self.counts = torch.zeros(0, dtype=torch.float64)  #: (classes,)
        self.sums = torch.zeros(0, 0, dtype=torch.float64)  #: (classes, columns)
        self.products = torch.zeros(0, 0, dtype=torch.float64)  #: (columns, columns)
        self.weight = torch.zeros(0, 0, dtype=torch.float64)  #: (columns, classes)
        self.bias = torch.zeros(0, dtype=torch.float64)  #: (classes,)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        columns, classes = pooled_dim(features.shape), len(self.classes)
        if not len(self.counts):
            self.products = torch.zeros(columns, columns, dtype=torch.float64)
        self.counts = with_room(self.counts, classes)
        self.sums = with_room(self.sums, classes, columns)
        for rows in batches(len(features), READ):
            x, y = pooled(features[rows]), one_hot(targets[rows], classes).double()
            self.counts += y.sum(0)
            self.sums += y.T @ x
            self.products += x.T @ x
        self._solve()

    def _solve(self) -> None:
        total = self.counts.sum()
        mean, share = self.sums.sum(0) / total, self.counts / total
        scatter = self.products - total * torch.outer(mean, mean)
        cross = self.sums.T - total * torch.outer(mean, share)
        variance = scatter.diagonal() / total
        scale = inverse_deviation(variance, self.products.diagonal() / total)
        gram = scale[:, None] * scatter * scale
        gram.diagonal().add_(total * self.settings.penalty)
        factor = torch.linalg.cholesky(gram)
        self.weight = scale[:, None] * torch.cholesky_solve(scale[:, None] * cross, factor)
        self.bias = share - mean @ self.weight

    def _scores(self, features: Features) -> Tensor:
        return pooled(features) @ self.weight + self.bias
