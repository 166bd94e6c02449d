"""Joint training: the same network, made anew each session from every clip seen so far. The ceiling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from harkback.features import FeatureRows, Features
from harkback.learners.base import Learner
from harkback.network import AVCIL_NETWORK, Network, NetworkSettings
from harkback.training import AVCIL_TRAIN, TrainSettings, class_loss, fit


@dataclass(frozen=True, slots=True)
class JointSettings:
    network: NetworkSettings = field(default_factory=NetworkSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


class Joint(Learner[JointSettings]):
    """The upper bound of the field (AV-CIL's "upper bound"): a fresh network on all data of all classes so far.

    It keeps every clip, so it is no incremental method; the report shows the bytes it needs. `l3`'s network and
    training; ``joint-avcil`` has AV-CIL's, as its paper's upper bound.
    """

    Settings = JointSettings
    VARIANTS: ClassVar = {"avcil": {"network": AVCIL_NETWORK, "train": AVCIL_TRAIN}}
    cumulative = True

    def __init__(self, settings: JointSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        self.network = Network(self.settings.network)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        self.network = Network(self.settings.network)
        self.network.ready(features, len(self.classes), self.generator)
        judge = self.judge(lambda clips: self.network.answer(clips).logits)
        self.losses = fit(self.network, features, class_loss(targets), self.settings.train, self.generator, judge=judge)

    def _scores(self, features: Features) -> Tensor:
        return self.network.answer(features).logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
