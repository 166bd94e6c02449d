"""Mahalanobis distance to class means, with a covariance for each class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features
from harkback.gram import Centres, by_class, orthogonal
from harkback.learners.base import Learner
from harkback.lift import FirstStandard
from harkback.state import State


@dataclass(frozen=True, slots=True)
class FeCAMSettings:
    power: float = 0.5  #: of Tukey's transformation, above 0 up to 1; 1: none
    shrinkage: float = 1.0  #: gamma_1: how much of a class's mean variance is added to each of its variances


class FeCAM(Learner[FeCAMSettings]):
    """argmin_c (x - mu_c)^T N_c^-1 (x - mu_c), N_c the correlation matrix of Sigma_c + gamma_1 v_c I.

    FeCAM (arXiv 2309.14062): Sigma_c is the covariance of class c alone, v_c its mean variance, and N_c the shrunk
    covariance divided by its own standard deviations, so that classes with much spread do not attract everything. x
    are pooled tokens, standardised, to Tukey's power, by which skewed features become more normal.

    Deviations: the power keeps the sign, as features may be negative; x is standardised by the first session instead
    of brought to unit length, as two modalities have different units; mu_c is the mean of transformed vectors; gamma_2
    is 0, as in the authors' code for frozen transformers. Given the first session, exact and blind to the order.

    N_c^-1 = D (Sigma_c + g I)^-1 D with D^2 its diagonal and g = gamma_1 v_c, and Sigma_c = A^T A with orthogonal rows
    A, so the distance is (|u|^2 - sum_i (a_i u)^2 / (|a_i|^2 + g)) / g with u = D (x - mu_c). The rows are kept, fewer
    for each class than it has clips, and no covariance is ever formed.
    """

    Settings = FeCAMSettings
    FITTED: ClassVar[tuple[str, ...]] = ("centres.means", "axes")
    COMMON: ClassVar[tuple[str, ...]] = ("standard",)

    def __init__(self, settings: FeCAMSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        if not (0 < self.settings.power <= 1 and self.settings.shrinkage > 0):
            raise HarkbackError(
                "the power of fecam must be above 0 and at most 1, its shrinkage above 0",
                mend="0.5 and 1 are the defaults",
            )
        self.standard = FirstStandard()
        self.centres = Centres()
        self.axes = torch.zeros(0, 0, dtype=torch.float64)  #: (axes, columns) square roots of the classes' scatters
        self.owner = torch.zeros(0, dtype=torch.long)  #: (axes,) the class of each
        self._known: tuple[Tensor, list[_Measure]] | None = None  #: axes, and what is made of them, once asked for

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        x = self._transform(self.standard.learn(features))
        added = ((c, self.centres.add(x[rows], c, len(self.classes))) for c, rows in by_class(targets))
        self._spread(added, targets, x.shape[1])

    def absorb(self, other: FeCAM, columns: Tensor) -> None:
        apart = self.centres.merge(other.centres, columns, len(self.classes))
        added = ((c, torch.cat([other.axes[other.owner == i], apart[i, None]])) for i, c in enumerate(columns.tolist()))
        self._spread(added, columns, apart.shape[1])

    def _spread(self, added: Iterable[tuple[int, Tensor]], classes: Tensor, columns: int) -> None:
        """Add rows (any, columns) to the scatters of these classes."""
        others = ~torch.isin(self.owner, classes)
        axes, owner = [self.axes[others].reshape(-1, columns)], [self.owner[others]]
        for target, rows in added:
            former = self.axes[self.owner == target].reshape(-1, columns)
            mine, _ = orthogonal(torch.cat([former, rows]), rows.new_zeros(len(former) + len(rows), 0))
            axes.append(mine)
            owner.append(torch.full((len(mine),), target))
        self.axes, self.owner = torch.cat(axes), torch.cat(owner)

    def subtract(self, target: int, entry: State) -> None:  # noqa: ARG002 (what it keeps is kept by class)
        self.centres.remove(target)
        others = self.owner != target
        self.axes, self.owner = self.axes[others], self.owner[others]
        self.owner = self.owner - (self.owner > target).long()

    def _transform(self, vectors: tuple[Tensor, Tensor]) -> Tensor:
        x = torch.cat(vectors, 1)
        return x.sign() * x.abs() ** self.settings.power

    def _scores(self, features: Features) -> Tensor:
        if self._known is None or self._known[0] is not self.axes:
            self._known = self.axes, [self._measure(target) for target in range(len(self.classes))]
        x, means = self._transform(self.standard(features)), self.centres.means
        return torch.stack([-self._known[1][target](x - mean) for target, mean in enumerate(means)], 1)

    def _measure(self, target: int) -> _Measure:
        mine = (self.owner == target).nonzero().flatten()
        first = int(mine[0]) if len(mine) else 0
        # Those of a class stand together. They are of the scatter: the factor to the covariance divides out of N_c.
        axes = self.axes[first : first + len(mine)]
        squares = axes.square()
        variances = squares.sum(0)
        added = self.settings.shrinkage * variances.mean()
        if added < 1e-24:
            added = torch.ones((), dtype=torch.float64)  # A class of one clip, or of alike ones: the plain distance.
        return _Measure((variances + added).sqrt(), axes, 1 / (squares.sum(1) + added), added)


class _Measure(NamedTuple):
    """A class's measure of distance."""

    scale: Tensor  #: (columns,) D
    axes: Tensor  #: (axes, columns) A
    shares: Tensor  #: (axes,) 1 / (|a_i|^2 + g)
    added: Tensor  #: () g

    def __call__(self, away: Tensor) -> Tensor:
        """(clips,) squared Mahalanobis distance; away: (clips, columns) x - mu_c, which is overwritten."""
        u = away.mul_(self.scale)
        within = (u @ self.axes.T).square_() @ self.shares
        return (u.square_().sum(1) - within) / self.added
