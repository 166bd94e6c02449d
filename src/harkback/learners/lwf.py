"""Learning without Forgetting: no exemplars; the former model's answers to the new clips are held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from harkback.distill import logit_distillation, separated_cross_entropy
from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.limits import Limits
from harkback.network import AVCIL_NETWORK, Answers, Network, NetworkSettings
from harkback.training import AVCIL_TRAIN, TrainSettings, fit


@dataclass(frozen=True, slots=True)
class LwFSettings:
    network: NetworkSettings = field(default_factory=lambda: AVCIL_NETWORK)
    train: TrainSettings = field(default_factory=lambda: AVCIL_TRAIN)
    weight: float = 1.0  #: of the distillation, lambda_o in the paper
    temperature: float = 2.0  #: softens the logits that are distilled

    LIMITS: ClassVar[Mapping[str, Limits]] = {"weight": (0, None), "temperature": (0.01, None)}


class LwF(Learner[LwFSettings]):
    """L_new + weight sum_s T^2 KL(softmax(z_old,s / T) || softmax(z_s / T)) over former sessions s (arXiv 1606.09282).

    As in the paper each session's classes are an output layer of their own: new clips are classified among the new
    classes, and what the teacher says is held session by session. Asked, all classes compete in one softmax: the paper
    is told the session, class-incremental learning is not. Network and training are AV-CIL's (arXiv 2308.11073).
    Deviation: the new layer is not warmed up with the rest frozen. The memory is not used.
    """

    Settings = LwFSettings

    def __init__(self, settings: LwFSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        s = self.settings
        teacher = self.network.ask(features).logits if self.network.built else None
        self.network.ready(features, len(self.classes), self.generator)
        new = self.born == self.sessions

        def loss(said: Answers, batch: Tensor) -> Tensor:
            total = separated_cross_entropy(said.logits, targets[batch], new)
            if teacher is None:
                return total
            old = teacher.shape[1]
            return total + s.weight * logit_distillation(
                said.logits[:, :old], teacher[batch], self.born[:old], s.temperature
            )

        judge = self.judge(lambda clips: self.network.answer(clips).logits)
        self.losses = fit(self.network, features, loss, s.train, self.generator, judge=judge)

    def _scores(self, features: Features) -> Tensor:
        return self.network.answer(features).logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
