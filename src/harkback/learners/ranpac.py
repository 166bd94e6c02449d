"""Ridge regression on rectified random projections of the frozen tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features
from harkback.gram import Root, products, rounding
from harkback.learners.base import Learner
from harkback.lift import FirstStandard, projection
from harkback.limits import Limits
from harkback.state import State
from harkback.triangle import add_products

LIFTED = 512  #: clips lifted at a time
PENALTIES = tuple(10.0**power for power in range(-8, 9))


@dataclass(frozen=True, slots=True)
class RanPACSettings:
    features: int = 10_000  #: how many random features
    penalty: float | None = None  #: weight of the squared coefficients; none: chosen in each session, as in the paper

    LIMITS: ClassVar[Mapping[str, Limits]] = {"features": (1, None)}


class RanPAC(Learner[RanPACSettings]):
    """W = (G + lambda I)^-1 Q, G = sum of h h^T, Q = sum of h y^T, h = ReLU(x R), R standard normal.

    RanPAC (arXiv 2307.02251) without its first stage, which trains the encoder. lambda, of 10^-8 .. 10^8, is the one
    whose solution on 80 % of the session's clips has the least squared error on the others. That is the paper's way and
    it is fragile: the last session alone decides, by few clips of few classes (the smaller lambda if they tie, the one
    before if there are not enough clips to try). Given lambda and the first session, which fixes the standardisation of
    x, the solution is exact and blind to the order.

    Deviation: x is standardised (the paper's is one network's output). G is kept as rows with that Gram matrix (`Root`)
    while there are fewer clips than features, so n clips need n x M numbers; R is made anew from its seed.
    """

    Settings = RanPACSettings
    FITTED: ClassVar[tuple[str, ...]] = ("weight",)
    COMMON: ClassVar[tuple[str, ...]] = ("seed", "standard")

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
        if self.ledger is not None:
            self.ledger.clips(targets, x)
        self.root.absorb(self._chosen_by(x, y))
        del x  # What follows takes most memory.
        self.weight = self.root.ridge(self.penalty)

    def _chosen_by(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """h (clips, features) and y, some clips at a time, after they have chosen the penalty."""
        order = torch.randperm(len(x), generator=self.generator)
        cut, most = int(0.8 * len(x)), self.settings.features
        if self.settings.penalty is not None or not cut:
            return self._lifted(x, y)
        known, asked = (self._lifted(x[rows], y[rows]) for rows in (order[:cut], order[cut:]))
        if cut > most:
            self.penalty = _best(*_by_features(known, asked))
            return self._lifted(x, y)
        held = list(known), list(asked)
        self.penalty = _best(*_by_clips(*held))
        if len(self.root.rows) + len(x) > most:  # Rows and sums will be held at one time: that is enough.
            return self._lifted(x, y)
        return (some.pop(0) for some in held for _ in range(len(some)))

    def absorb(self, other: RanPAC, columns: Tensor) -> None:
        """The penalty is the other's, whose sessions are the last."""
        self.penalty = other.penalty.clone()
        self.root.merge(other.root, columns)
        self.weight = self.root.ridge(self.penalty)

    def subtract(self, target: int, entry: State) -> None:
        """The penalty, which clips of the last session chose, stays."""
        self.root.remove(self._lift(entry["x"]), target)
        self.weight = self.root.ridge(self.penalty)

    def _lifted(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """h (clips, features) and y, some clips at a time."""
        return ((self._lift(part), aims) for part, aims in zip(x.split(LIFTED), y.split(LIFTED), strict=True))

    def _lift(self, x: Tensor) -> Tensor:
        return (x @ projection(int(self.seed), x.shape[1], self.settings.features)).relu_()

    def _scores(self, features: Features) -> Tensor:
        return self._lift(torch.cat(self.standard(features), 1)) @ self.weight


def _by_clips(known: list[tuple[Tensor, Tensor]], asked: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
    """What `_best` wants, if there are more features than known clips: products of clips with clips."""
    rows = [h for h, _ in known]
    between = torch.cat([torch.cat([h @ other.T for other in rows], 1) for h, _ in asked])
    return products(rows), torch.cat([y for _, y in known]), between, torch.cat([y for _, y in asked])


def _by_features(known: Iterable[tuple[Tensor, Tensor]], asked: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
    """The same if there are more clips: products of features with features."""
    between, aims = (torch.cat(part) for part in zip(*asked, strict=True))
    gram = between.new_zeros(between.shape[1], between.shape[1])
    told = between.new_zeros(between.shape[1], aims.shape[1])
    for h, y in known:
        add_products(gram, h)
        told.addmm_(h.T, y)
    return gram, told, between, aims


def _best(matrix: Tensor, told: Tensor, between: Tensor, aims: Tensor) -> Tensor:
    """() the penalty for which ``between`` (matrix + penalty I)^-1 ``told`` has the least squared error from ``aims``.

    matrix: (n, n), of which the lower triangle is read; told: (n, classes); between: (clips, n).
    """
    energy, turn = torch.linalg.eigh(matrix)
    more = energy > rounding(energy)
    energy, turn = energy[more], turn[:, more]
    between, told = between @ turn, turn.T @ told
    tries = (between @ (told / (energy + penalty)[:, None]) for penalty in PENALTIES)
    errors = torch.stack([(said - aims).square().sum() for said in tries])
    return torch.tensor(PENALTIES, dtype=torch.float64)[errors.argmin()]
