"""Linear discriminant analysis with a covariance that all classes share: exact, and blind to their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.moments import Moments, factorised, solved
from harkback.pooling import add_pooled, pooled
from harkback.state import State


@dataclass(frozen=True, slots=True)
class SLDASettings:
    shrinkage: float = 1e-4  #: share of the unit matrix in the covariance, above 0 up to 1


class SLDA(Learner[SLDASettings]):
    """score_c = w_c^T x + b_c, w_c = S^-1 mu_c, b_c = -mu_c^T S^-1 mu_c / 2, S = (1 - e) Sigma + e I.

    Streaming LDA (arXiv 1909.01520), on standardised pooled tokens. Deviations: Sigma is the exact covariance within
    the classes, computed from sums, while the paper's streaming update measures each clip from where its class's mean
    was at that time, and so depends on the order; columns are standardised, as two modalities have different units.
    """

    Settings = SLDASettings
    FITTED: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(self, settings: SLDASettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        if not 0 < self.settings.shrinkage <= 1:
            raise HarkbackError("the shrinkage of slda must be above 0 and at most 1", mend="0.0001 is the default")
        self.moments = Moments()
        self.weight = torch.zeros(0, 0, dtype=torch.float64)  #: (columns, classes)
        self.bias = torch.zeros(0, dtype=torch.float64)  #: (classes,)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        add_pooled(self.moments, features, targets, len(self.classes), ledger=self.ledger)
        self._solve()

    def absorb(self, other: SLDA, columns: Tensor) -> None:
        self.moments.merge(other.moments, columns, len(self.classes))
        self._solve()

    def subtract(self, target: int, entry: State) -> None:
        self.moments.remove(entry["x"], target)
        self._solve()

    def _solve(self) -> None:
        share, moments = self.settings.shrinkage, self.moments
        mean, scale = moments.mean, moments.scale
        covariance = moments.within.mul_(scale).mul_(scale[:, None] * ((1 - share) / moments.total))
        covariance.diagonal().add_(share)
        means = ((moments.means - mean) * scale).T  # (columns, classes) of standardised vectors
        weight = solved(factorised(covariance), means)
        self.weight = scale[:, None] * weight
        self.bias = -(means * weight).sum(0) / 2 - mean @ self.weight

    def _scores(self, features: Features) -> Tensor:
        return pooled(features) @ self.weight + self.bias
