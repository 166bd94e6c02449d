"""Nearest class mean on the frozen tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import normalize

from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.moments import Moments
from harkback.pooling import add_pooled, pooled
from harkback.state import State


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
    FITTED: ClassVar[tuple[str, ...]] = ("moments.sums",)

    def __init__(self, settings: NCMSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.moments = Moments(products=False)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        add_pooled(self.moments, features, targets, len(self.classes), ledger=self.ledger)

    def absorb(self, other: NCM, columns: Tensor) -> None:
        self.moments.merge(other.moments, columns, len(self.classes))

    def subtract(self, target: int, entry: State) -> None:
        self.moments.remove(entry["x"], target)

    def _scores(self, features: Features) -> Tensor:
        mean, scale = self.moments.mean, self.moments.scale
        centres = (self.moments.means - mean) * scale
        return normalize((pooled(features) - mean) * scale, dim=1) @ normalize(centres, dim=1).T
