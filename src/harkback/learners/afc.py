"""AFC: features are held the more, the more the former model's loss depends on them; classes are sets of proxies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harkback.buffer import reading
from harkback.distill import importance_distillation, nca
from harkback.features import FeatureRows, Features
from harkback.heads import PROXIES, ProxyHead
from harkback.learners.base import Learner
from harkback.limits import Limits
from harkback.memory import Memory
from harkback.network import AVCIL_NETWORK, Answers, Network, NetworkSettings
from harkback.nme import NearestMean
from harkback.training import AVCIL_TRAIN, TrainSettings, fit


@dataclass(frozen=True, slots=True)
class AFCSettings:
    network: NetworkSettings = field(default_factory=lambda: AVCIL_NETWORK)
    train: TrainSettings = field(default_factory=lambda: AVCIL_TRAIN)
    weight: float = 0.5  #: of the distillation, times the root of classes seen over classes new
    answer: Literal["lsc", "nme"] = "lsc"  #: lsc: the head of proxies; nme: the nearest mean of exemplars

    LIMITS: ClassVar[Mapping[str, Limits]] = {"weight": (0, None)}


class AFC(Learner[AFCSettings]):
    """L = NCA + weight sqrt(seen / new) sum_m I_m || f_m - f_m,old || (arXiv 2204.00895, as AV-CIL carries it over).

    f_m: the attended picture, the projected sound and the projected picture, of unit length; I_m: the norm of the
    gradient of the teacher's loss at f_m, over the sum of the three, clip by clip. Ten proxies a class (PODNet's local
    similarity classifier). The margin of NCA is the paper's, on the true class alone; AV-CIL's code takes it off every
    class, which is no margin at all. Former proxies are fixed, as in AV-CIL's code. Deviation: new proxies begin
    at clips of their class, not at k-means centres. Network and training are AV-CIL's (arXiv 2308.11073).
    """

    Settings = AFCSettings
    VARIANTS: ClassVar = {"nme": {"answer": "nme"}}

    def __init__(self, settings: AFCSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network, ProxyHead)
        self.memory = Memory(memory)
        self.nearest = NearestMean()

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        s = self.settings
        rows, targets = self.memory.beside(features, targets)
        taught = self.network.built is not None
        self.network.ready(features, len(self.classes), self.generator)
        head = cast(ProxyHead, self.network.head)
        self._imprint(head, self.network.ask(rows).fused, targets)
        teacher = self._with_importance(rows, targets) if taught else None
        new = max(1, int((self.born == self.sessions).sum()))
        weight = s.weight * (len(self.classes) / new) ** 0.5

        def loss(said: Answers, batch: Tensor) -> Tensor:
            total = nca(said.logits, targets[batch], head.scale)
            if teacher is None:
                return total
            told, importance = teacher
            for m, (mine, its) in enumerate(zip(_held(said), told, strict=True)):
                total = total + weight * importance_distillation(mine, its[batch], importance[batch, m])
            return total

        judge = self.judge(lambda clips: self.network.answer(clips).logits)
        self.losses = fit(self.network, rows, loss, s.train, self.generator, judge=judge)
        vectors = self.network.ask(rows).fused
        self.nearest.update(vectors, targets, len(self.classes))
        self.memory.keep(rows, targets, vectors, len(self.classes), "herding", self.generator)
        if self.memory.features is not None and len(self.memory):
            fused = self.network.ask(self.memory.features).fused
            self.nearest.update(fused, self.memory.targets, len(self.classes))

    def _imprint(self, head: ProxyHead, fused: Tensor, targets: Tensor) -> None:
        """The proxies of each new class begin at clips of it."""
        for row, number in enumerate((self.born == self.sessions).nonzero().flatten().tolist()):
            mine = (targets == number).nonzero().flatten()
            drawn = mine[torch.randint(len(mine), (PROXIES,), generator=self.generator)]
            with torch.no_grad():
                head.weight[row] += normalize(fused[drawn], dim=1)

    def _with_importance(self, rows: FeatureRows, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """The teacher's vectors of all rows, and (rows, vectors) the share of each in the gradient of its loss."""
        vectors: list[tuple[Tensor, ...]] = []
        shares: list[Tensor] = []
        scale = cast(ProxyHead, self.network.head).scale
        for batch, clips in reading(rows):
            said = self.network.answer(clips)
            at = [said.audio, said.visual, *(() if said.looked is None else (said.looked.vectors,))]
            loss = nca(said.logits, targets[batch], scale) * len(batch)
            norms = [
                torch.zeros(len(batch)) if slope is None else slope.flatten(1).norm(dim=1).cpu()
                for slope in torch.autograd.grad(loss, at, allow_unused=True)
            ]
            total = torch.stack(norms, 1)
            shares.append(total / total.sum(1, keepdim=True).clamp_min(1e-12))
            vectors.append(tuple(vector.detach() for vector in _held(said)))
        return [torch.cat(column) for column in zip(*vectors, strict=True)], torch.cat(shares)

    def _scores(self, features: Features) -> Tensor:
        said = self.network.answer(features)
        return self.nearest.scores(said.fused) if self.settings.answer == "nme" else said.logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)


def _held(said: Answers) -> list[Tensor]:
    """The vectors that are held: sound, picture, and what was attended if there was a guide."""
    attended = () if said.looked is None else (said.looked.vectors.flatten(1).cpu(),)
    return [said.audio, said.visual, *attended]
