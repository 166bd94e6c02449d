"""SS-IL: separated softmax, so that new clips do not push former classes down, and distillation session by session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from harkback.distill import logit_distillation, separated_cross_entropy
from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.limits import Limits
from harkback.memory import Choice, Memory
from harkback.network import AVCIL_NETWORK, Answers, Network, NetworkSettings
from harkback.training import AVCIL_TRAIN, TrainSettings, fit


@dataclass(frozen=True, slots=True)
class SSILSettings:
    network: NetworkSettings = field(default_factory=lambda: AVCIL_NETWORK)
    train: TrainSettings = field(default_factory=lambda: replace(AVCIL_TRAIN, replay=128))
    temperature: float = 2.0  #: softens the logits that are distilled
    exemplars: Choice = "random"  #: how exemplars are chosen

    LIMITS: ClassVar[Mapping[str, Limits]] = {"temperature": (0.01, None)}


class SSIL(Learner[SSILSettings]):
    """L = separated cross-entropy + sum_s T^2 KL of each former session s (arXiv 2003.13947 eq. 3 and 6).

    Every step has exemplars beside its new clips in a fixed ratio (the paper's ratio-preserving batches, 2 : 1 as in
    AV-CIL). Network, training, T^2 and random exemplars are AV-CIL's (arXiv 2308.11073); its exception for one split
    of AVE is left out.
    """

    Settings = SSILSettings

    def __init__(self, settings: SSILSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network)
        self.memory = Memory(memory)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        s = self.settings
        rows, targets = self.memory.beside(features, targets)
        teacher = self.network.ask(rows).logits if self.network.built else None
        self.network.ready(features, len(self.classes), self.generator)
        new = self.born == self.sessions

        def loss(said: Answers, batch: Tensor) -> Tensor:
            total = separated_cross_entropy(said.logits, targets[batch], new)
            if teacher is None:
                return total
            old = teacher.shape[1]
            return total + logit_distillation(said.logits[:, :old], teacher[batch], self.born[:old], s.temperature)

        judge = self.judge(lambda clips: self.network.answer(clips).logits)
        self.losses = fit(self.network, rows, loss, s.train, self.generator, fresh=len(features), judge=judge)
        vectors = self.network.ask(rows).fused if s.exemplars == "herding" else torch.zeros(len(rows), 0)
        self.memory.keep(rows, targets, vectors, len(self.classes), s.exemplars, self.generator)

    def _scores(self, features: Features) -> Tensor:
        return self.network.answer(features).logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
