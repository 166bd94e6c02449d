"""Ridge regression in closed form on the frozen tokens: exact, and blind to the order of the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.moments import Moments, regression
from harkback.pooling import add_pooled, pooled
from harkback.state import State


@dataclass(frozen=True, slots=True)
class RidgeSettings:
    penalty: float = 0.1  #: weight of the squared coefficients, per clip and standardised column


class Ridge(Learner[RidgeSettings]):
    """W = (Z^T Z + n penalty I)^-1 Z^T Y, with Z the standardised pooled tokens and Y one-hot, both centred.

    Only sums are kept (of x, of x x^T, of x by class), so learning class by class gives what learning all at once
    gives: on frozen features the incremental solution is the joint one. Recursive least squares, the form in which
    analytic learning states it (ACIL, arXiv 2205.14922, eq. 9 and 10), keeps the inverse instead of the sum and has the
    same solution. Deviation from ACIL: no random lift (`ranpac` has one), and columns are standardised.
    """

    Settings = RidgeSettings
    FITTED: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(self, settings: RidgeSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        if not self.settings.penalty > 0:
            raise HarkbackError("the penalty of ridge must be above 0", mend="0.1 is the default")
        self.moments = Moments()
        self.weight = torch.zeros(0, 0, dtype=torch.float64)  #: (columns, classes)
        self.bias = torch.zeros(0, dtype=torch.float64)  #: (classes,)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        add_pooled(self.moments, features, targets, len(self.classes), ledger=self.ledger)
        self.weight, self.bias = regression(self.moments, self.settings.penalty)

    def absorb(self, other: Ridge, columns: Tensor) -> None:
        self.moments.merge(other.moments, columns, len(self.classes))
        self.weight, self.bias = regression(self.moments, self.settings.penalty)

    def subtract(self, target: int, entry: State) -> None:
        self.moments.remove(entry["x"], target)
        self.weight, self.bias = regression(self.moments, self.settings.penalty)

    def _scores(self, features: Features) -> Tensor:
        return pooled(features) @ self.weight + self.bias
