"""Listen, Look, and Learn: guided attention, exemplars, distillation of features and logits (arXiv 2606.10887)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from harkback.distill import balanced_cross_entropy, class_counts, feature_distillation, logit_distillation
from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.limits import Limits
from harkback.memory import Choice, Memory
from harkback.network import Answers, Network, NetworkSettings
from harkback.training import TrainSettings, fit


@dataclass(frozen=True, slots=True)
class L3Settings:
    network: NetworkSettings = field(default_factory=NetworkSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    feature_weight: float = 0.3  #: weight of feature distillation; 0: none
    logit_weight: float = 0.3  #: weight of logit distillation; 0: none
    temperature: float = 2.0  #: softens the logits that are distilled
    balance: bool = True  #: correct the cross-entropy for the imbalance between new clips and exemplars
    exemplars: Choice = "herding"  #: how exemplars are chosen

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "feature_weight": (0, None), "logit_weight": (0, None), "temperature": (0.01, None),
    }  # fmt: skip


class L3(Learner[L3Settings]):
    """Listen, Look, and Learn.

    Paper: arXiv 2606.10887, known by its abstract alone; `docs/method.md` lists what it leaves open and what we chose.
    Each session trains the whole network (not the encoder) on the new clips and the exemplars together, and holds its
    features and its logits to those of the network as the session found it. The teacher is asked once a session.
    """

    Settings = L3Settings
    ABLATIONS: ClassVar = {
        "naive-fusion": {"network.guide": "none"},
        "no-feature-distillation": {"feature_weight": 0.0},
        "no-logit-distillation": {"logit_weight": 0.0},
        "no-distillation": {"feature_weight": 0.0, "logit_weight": 0.0},
    }

    def __init__(self, settings: L3Settings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network)
        self.memory = Memory(memory)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        s = self.settings
        rows, targets = self.memory.beside(features, targets)
        teacher = self.network.ask(rows) if self.network.built else None  # Once a session: the tokens are frozen.
        self.network.ready(features, len(self.classes), self.generator)
        counts = class_counts(targets, len(self.classes))
        if not s.balance:
            counts = torch.ones_like(counts)

        def loss(said: Answers, batch: Tensor) -> Tensor:
            total = balanced_cross_entropy(said.logits, targets[batch], counts)
            if teacher is None:
                return total
            for mine, its in (
                (said.audio, teacher.audio[batch]),
                (said.visual, teacher.visual[batch]),
                (said.fused, teacher.fused[batch]),
            ):
                # A sound or picture that was not there, or is withheld in this step, has a vector of zeros.
                there = mine.detach().any(1) & its.any(1)
                total = total + s.feature_weight / 3 * feature_distillation(mine, its, there)
            told = teacher.logits[batch]
            old = told.shape[1]
            return total + s.logit_weight * logit_distillation(
                said.logits[:, :old], told, self.born[:old], s.temperature
            )

        judge = self.judge(lambda clips: self.network.answer(clips).logits)
        self.losses = fit(self.network, rows, loss, s.train, self.generator, fresh=len(features), judge=judge)
        if self.budget:
            fused = self.network.ask(rows).fused
            self.memory.keep(rows, targets, fused, len(self.classes), s.exemplars, self.generator)

    def _scores(self, features: Features) -> Tensor:
        return self.network.answer(features).logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
