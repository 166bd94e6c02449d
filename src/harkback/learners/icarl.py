"""iCaRL: herded exemplars, distillation of sigmoids, answers by the nearest mean of exemplars."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from harkback.distill import sigmoid_distillation
from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.memory import Memory
from harkback.network import AVCIL_NETWORK, Answers, Network, NetworkSettings
from harkback.nme import NearestMean
from harkback.training import AVCIL_TRAIN, TrainSettings, fit


@dataclass(frozen=True, slots=True)
class ICaRLSettings:
    network: NetworkSettings = field(default_factory=lambda: AVCIL_NETWORK)
    train: TrainSettings = field(default_factory=lambda: AVCIL_TRAIN)
    answer: Literal["nme", "fc"] = "nme"  #: nme: the nearest mean of exemplars; fc: the trained head


class ICaRL(Learner[ICaRLSettings]):
    """Every class has a sigmoid; former classes are held to the teacher's on all clips (arXiv 1611.07725).

    L = sum_c BCE(sigmoid(z_c), q_c), with q_c the teacher's sigmoid for former classes and the label for new ones. One
    sigmoid: the code of AV-CIL applies two, which makes the distillation all but nothing. Exemplars are herded on the
    fused vector. Where validation clips choose the epoch, they judge the head, for both answers. Network and training
    are AV-CIL's (arXiv 2308.11073).
    """

    Settings = ICaRLSettings
    VARIANTS: ClassVar = {"fc": {"answer": "fc"}}

    def __init__(self, settings: ICaRLSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network)
        self.memory = Memory(memory)
        self.nearest = NearestMean()

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        rows, targets = self.memory.beside(features, targets)
        teacher = self.network.ask(rows).logits if self.network.built else None
        self.network.ready(features, len(self.classes), self.generator)

        def loss(said: Answers, batch: Tensor) -> Tensor:
            return sigmoid_distillation(said.logits, targets[batch], None if teacher is None else teacher[batch])

        judge = self.judge(lambda clips: self.network.answer(clips).logits)
        self.losses = fit(self.network, rows, loss, self.settings.train, self.generator, judge=judge)
        vectors = self.network.ask(rows).fused
        # A class of which the memory has no room for one clip is known by the mean of all its clips.
        self.nearest.update(vectors, targets, len(self.classes))
        self.memory.keep(rows, targets, vectors, len(self.classes), "herding", self.generator)
        if self.memory.features is not None and len(self.memory):
            fused = self.network.ask(self.memory.features).fused
            self.nearest.update(fused, self.memory.targets, len(self.classes))

    def _scores(self, features: Features) -> Tensor:
        said = self.network.answer(features)
        return said.logits if self.settings.answer == "fc" else self.nearest.scores(said.fused)

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
