"""Nearest class mean on the frozen tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from harkback.features import FeatureRows, Features, batches
from harkback.learners.base import Learner
from harkback.network import READ
from harkback.pooling import inverse_deviation, pooled, pooled_dim, with_room


@dataclass(frozen=True, slots=True)
class NCMSettings:
    pass


class NCM(Learner[NCMSettings]):
    """argmax_c cos(x, mu_c), on pooled tokens standardised by all clips so far (SimpleCIL, arXiv 2303.07338).

    Deviation: the paper compares raw features of one network; ours join two modalities with different units, so each
    column is first brought to zero mean and unit variance. All that is kept are sums, so the order of the clips and of
    the classes does not matter.
    """

    Settings = NCMSettings

    def __init__(self, settings: NCMSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.counts = torch.zeros(0, dtype=torch.float64)  #: (classes,)
        self.sums = torch.zeros(0, 0, dtype=torch.float64)  #: (classes, columns)
        self.squares = torch.zeros(0, dtype=torch.float64)  #: (columns,)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        columns, classes = pooled_dim(features.shape), len(self.classes)
        if not len(self.counts):
            self.squares = torch.zeros(columns, dtype=torch.float64)
        self.counts = with_room(self.counts, classes)
        self.sums = with_room(self.sums, classes, columns)
        for rows in batches(len(features), READ):
            x, y = pooled(features[rows]), one_hot(targets[rows], classes).double()
            self.counts += y.sum(0)
            self.sums += y.T @ x
            self.squares += x.square().sum(0)

    def _scores(self, features: Features) -> Tensor:
        total = self.counts.sum()
        mean = self.sums.sum(0) / total
        scale = inverse_deviation(self.squares / total - mean.square(), self.squares / total)
        centres = (self.sums / self.counts[:, None] - mean) * scale
        return normalize((pooled(features) - mean) * scale, dim=1) @ normalize(centres, dim=1).T
