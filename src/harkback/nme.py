"""Nearest mean of exemplars: classes answered by the means of what the memory holds of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harkback.state import State


class NearestMean:
    """score_c = -|| phi(x) - mu_c ||^2, with phi and mu of unit length (iCaRL, arXiv 1611.07725, algorithm 1)."""

    def __init__(self) -> None:
        self.means = torch.zeros(0, 0)  #: (classes, width)

    def update(self, vectors: Tensor, targets: Tensor, classes: int) -> None:
        """vectors: (clips, width) phi of exemplars, as the network sees them now; targets: (clips,) long.

        A class without an exemplar keeps the mean it had.
        """
        means = torch.zeros(classes, vectors.shape[1])
        if len(self.means):
            means[: len(self.means)] = self.means
        for target in targets.unique().tolist():
            means[target] = normalize(normalize(vectors[targets == target], dim=1).mean(0), dim=0)
        self.means = means

    def scores(self, vectors: Tensor) -> Tensor:
        """(clips, classes)"""
        return -(normalize(vectors, dim=1)[:, None] - self.means).square().sum(2)

    def state(self) -> State:
        return {"means": self.means}

    def restore(self, state: State) -> None:
        self.means = state["means"].clone()
