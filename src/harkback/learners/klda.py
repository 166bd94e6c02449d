"""Linear discriminant analysis on random Fourier features: classes that no plane divides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harkback.errors import HarkbackError
from harkback.features import READ, FeatureRows, Features
from harkback.gram import Centres, Root, by_class
from harkback.learners.base import Learner
from harkback.lift import FirstStandard, projection
from harkback.limits import Limits
from harkback.state import State


@dataclass(frozen=True, slots=True)
class KLDASettings:
    features: int = 5_000  #: how many random features
    bandwidth: float = 1.0  #: sigma of the kernel, as a share of the expected distance of two clips
    shrinkage: float = 0.1  #: share of the unit matrix, at the mean variance, in the covariance; between 0 and 1

    LIMITS: ClassVar[Mapping[str, Limits]] = {"features": (1, None)}


class KLDA(Learner[KLDASettings]):
    """score_c = w_c^T z + b_c, w_c = S^-1 mu_c, b_c = -mu_c^T S^-1 mu_c / 2, z = sqrt(2 / D) cos(x W + b).

    Kernel LDA (arXiv 2412.15571), one member of its ensemble. W is normal of variance 1 / sigma^2 and b uniform over a
    turn, so z^T z' approximates the kernel exp(-|x - x'|^2 / 2 sigma^2); mu_c are the means of z and S its covariance
    within the classes. Given the first session, which fixes the standardisation of x, exact and blind to the order.

    Deviations: the paper's code is given its sigma; here it is the root mean square distance of two clips, which is
    known without looking, sqrt(2 columns), as x is standardised. S = (1 - e) Sigma + e v I with v the mean variance,
    where the paper's code takes the pseudo-inverse of Sigma, which amplifies what is rounding when the clips are fewer
    than the random features. Sigma is kept as rows with that Gram matrix, if that is less (`Root`).
    """

    Settings = KLDASettings
    FITTED: ClassVar[tuple[str, ...]] = ("weight", "bias")
    COMMON: ClassVar[tuple[str, ...]] = ("seed", "standard")

    def __init__(self, settings: KLDASettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        if not (0 < self.settings.shrinkage < 1 and self.settings.bandwidth > 0):
            raise HarkbackError(
                "the shrinkage of klda must be between 0 and 1, its bandwidth above 0",
                mend="0.1 and 1 are the defaults",
            )
        self.seed = torch.randint(2**62, (), generator=self.generator)  #: of W and b
        self.standard = FirstStandard()
        self.centres = Centres()
        self.root = Root()  #: of the scatter within the classes
        self.weight = torch.zeros(0, 0, dtype=torch.float64)  #: (features, classes)
        self.bias = torch.zeros(0, dtype=torch.float64)  #: (classes,)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        x = torch.cat(self.standard.learn(features), 1)
        self.root.absorb(self._spread(x, targets))
        if self.ledger is not None:
            self.ledger.clips(targets, x)
        self._solve()

    def absorb(self, other: KLDA, columns: Tensor) -> None:
        apart = self.centres.merge(other.centres, columns, len(self.classes))
        self.root.merge(other.root, columns[:0])
        self.root.absorb([(apart, apart.new_zeros(len(apart), 0))])
        self._solve()

    def subtract(self, target: int, entry: State) -> None:
        self.root.remove(self._lift(entry["x"]) - self.centres.means[target])
        self.centres.remove(target)
        self._solve()

    def _solve(self) -> None:
        share, counts = self.settings.shrinkage, self.centres.counts
        variance = self.root.energy / counts.sum() / self.settings.features
        # Covariance (1 - share) S^T S / n + share variance I, up to the factor ``inside``.
        inside = (1 - share) / counts.sum()
        # Of one clip in each class, or of clips that differ by rounding, the nearest mean is what is left.
        floor = share * (variance if variance > 1e-24 else 1.0)
        centre = counts @ self.centres.means / counts.sum()
        means = self.centres.means - centre  # Moves all scores of a clip alike, and saves digits.
        weight = self.root.whiten(means, floor / inside) / inside
        self.weight, self.bias = weight.T, -((means / 2 + centre) * weight).sum(1)

    def _spread(self, x: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What the session adds to the scatter within the classes, as rows without aims; moves the means."""
        for target, rows in by_class(targets):
            for batch in rows.split(READ):
                added = self.centres.add(self._lift(x[batch]), target, len(self.classes))
                yield added, added.new_zeros(len(added), 0)

    def _lift(self, x: Tensor) -> Tensor:
        seed, columns, count = int(self.seed), x.shape[1], self.settings.features
        sigma = self.settings.bandwidth * math.sqrt(2 * columns)
        turn = 2 * math.pi * torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
        return (x @ projection(seed, columns, count)).div_(sigma).add_(turn).cos_().mul_(math.sqrt(2 / count))

    def _scores(self, features: Features) -> Tensor:
        return self._lift(torch.cat(self.standard(features), 1)) @ self.weight + self.bias
