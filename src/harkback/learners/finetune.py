"""Fine-tuning: the network, trained on each session's clips and nothing else. What forgetting looks like."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.network import Network, NetworkSettings
from harkback.training import TrainSettings, fit_classes


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    network: NetworkSettings = field(default_factory=NetworkSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


class FineTune(Learner[FineTuneSettings]):
    """The lower bound: cross-entropy over all classes on the new clips; no memory, no distillation."""

    Settings = FineTuneSettings

    def __init__(self, settings: FineTuneSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        self.network.ready(features, len(self.classes), self.generator)
        fit_classes(self.network, features, targets, self.settings.train, self.generator)

    def _scores(self, features: Features) -> Tensor:
        return self.network.answer(features).logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
