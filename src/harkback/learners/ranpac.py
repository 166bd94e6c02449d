"""Ridge regression on rectified random projections of the frozen tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harkback.errors import HarkbackError
from harkback.features import READ, FeatureRows, Features
from harkback.gram import Root
from harkback.learners.base import Learner
from harkback.lift import FirstStandard, projection
from harkback.state import State

PENALTIES = tuple(10.0**power for power in range(-8, 9))


@dataclass(frozen=True, slots=True)
class RanPACSettings:
    features: int = 10_000  #: how many random features
    penalty: float | None = None  #: weight of the squared coefficients; none: chosen in each session, as in the paper


class RanPAC(Learner[RanPACSettings]):
    """W = (G + lambda I)^-1 Q, G = sum of h h^T, Q = sum of h y^T, h = ReLU(x R), R standard normal.

    RanPAC (arXiv 2307.02251) without its first stage, which trains the encoder. lambda, of 10^-8 .. 10^8, is the one
    whose solution on 80 % of the session's clips has the least squared error on the others. That is the paper's way and
    it is fragile: the last session alone decides, by few clips of few classes (the smaller lambda if they tie, the one
    before if there are not enough clips to try). Given lambda and the first session, which fixes the standardisation of
    x, the solution is exact and blind to the order.

    Deviation: x is standardised (the paper's is one network's output). G is kept as its square root (`Root`), so n
    clips need n x M numbers and never M x M; R is made anew from its seed.
    """

    Settings = RanPACSettings
    FITTED: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(self, settings: RanPACSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        given = self.settings.penalty
        if given is not None and not given > 0:
            raise HarkbackError("the penalty of ranpac must be above 0", mend="leave it out to have it chosen")
        self.seed = torch.randint(2**62, (), generator=self.generator)  #: of the random projection
        self.penalty = torch.tensor(1.0 if given is None else given, dtype=torch.float64)
        self.standard = FirstStandard()
        self.root = Root()
        self.weight = torch.zeros(0, 0, dtype=torch.float64)  #: (features, classes)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        x, y = torch.cat(self.standard.learn(features), 1), one_hot(targets, len(self.classes)).double()
        order = torch.randperm(len(x), generator=self.generator)
        cut = int(0.8 * len(x))
        if self.settings.penalty is None and cut:
            self.penalty = self._choose(x[order], y[order], cut)
        self.root.absorb(self._lifted(x, y))
        if self.ledger is not None:
            self.ledger.clips(targets, x)
        self.weight = self.root.ridge(self.penalty)

    def subtract(self, target: int, entry: State) -> None:
        """The penalty, which clips of the last session chose, stays."""
        self.root.remove(self._lift(entry["x"]), target)
        self.weight = self.root.ridge(self.penalty)

    def _choose(self, x: Tensor, y: Tensor, cut: int) -> Tensor:
        """The penalty of the solution on the first ``cut`` clips that has the least squared error on the others."""
        root = Root()
        root.absorb(self._lifted(x[:cut], y[:cut]))
        weights = [root.ridge(penalty) for penalty in PENALTIES]
        errors = torch.zeros(len(PENALTIES), dtype=torch.float64)
        for h, aims in self._lifted(x[cut:], y[cut:]):
            errors += torch.stack([(h @ weight - aims).square().sum() for weight in weights])
        return torch.tensor(PENALTIES, dtype=torch.float64)[errors.argmin()]

    def _lifted(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """h (clips, features) and y, a batch at a time."""
        return ((self._lift(part), aims) for part, aims in zip(x.split(READ), y.split(READ), strict=True))

    def _lift(self, x: Tensor) -> Tensor:
        return (x @ projection(int(self.seed), x.shape[1], self.settings.features)).relu_()

    def _scores(self, features: Features) -> Tensor:
        return self._lift(torch.cat(self.standard(features), 1)) @ self.weight
