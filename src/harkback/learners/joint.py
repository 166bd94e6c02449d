"""Joint training: the same network, made anew each session from every clip seen so far. The ceiling."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.network import Network, NetworkSettings
from harkback.training import TrainSettings, fit_classes


@dataclass(frozen=True, slots=True)
class JointSettings:
    network: NetworkSettings = field(default_factory=NetworkSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


class Joint(Learner[JointSettings]):
    """The upper bound of the field (AV-CIL's "upper bound"): a fresh network on all data of all classes so far.

    It keeps every clip, so it is no incremental method; the report shows the bytes it needs.
    """

    Settings = JointSettings
    cumulative = True

    def __init__(self, settings: JointSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        self.network = Network(self.settings.network)
        self.network.ready(features, len(self.classes), self.generator)
        fit_classes(self.network, features, targets, self.settings.train, self.generator)

    def _scores(self, features: Features) -> Tensor:
        return self.network.answer(features).logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
