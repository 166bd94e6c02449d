"""Fine-tuning: the network, trained on each session's clips and nothing else. What forgetting looks like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.network import AVCIL_NETWORK, Network, NetworkSettings
from harkback.training import AVCIL_TRAIN, TrainSettings, class_loss, fit


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    network: NetworkSettings = field(default_factory=NetworkSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


class FineTune(Learner[FineTuneSettings]):
    """The lower bound: cross-entropy over all classes on the new clips; no memory, no distillation.

    `l3`'s network and training; ``finetune-avcil`` has AV-CIL's (arXiv 2308.11073), as its paper's lower bound.
    """

    Settings = FineTuneSettings
    VARIANTS: ClassVar = {"avcil": {"network": AVCIL_NETWORK, "train": AVCIL_TRAIN}}

    def __init__(self, settings: FineTuneSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        self.network.ready(features, len(self.classes), self.generator)
        judge = self.judge(lambda clips: self.network.answer(clips).logits)
        self.losses = fit(self.network, features, class_loss(targets), self.settings.train, self.generator, judge=judge)

    def _scores(self, features: Features) -> Tensor:
        return self.network.answer(features).logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
