"""Ridge regression on random features of sound, of picture and of both, and what each alone can add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features, batches
from harkback.gram import BLOCK, Root
from harkback.learners.base import Learner
from harkback.lift import FirstStandard, projection
from harkback.limits import Limits


@dataclass(frozen=True, slots=True)
class MMALSettings:
    features: int = 2_000  #: how many random features in each stream
    penalty: float = 0.1  #: weight of the squared coefficients, as a share of the mean |h|^2
    compensation: float = 1.0  #: weight of what the single modalities add; 0: nothing

    LIMITS: ClassVar[Mapping[str, Limits]] = {"features": (1, None), "compensation": (0, None)}


class MMAL(Learner[MMALSettings]):
    """Like MMAL (ACM MM 2024, doi 10.1145/3664647.3681607), of which the abstract alone was read.

    From the abstract: a closed-form linear head on fused modalities, solved by recursive least squares, and a
    compensation of its under-fitting from "individual knowledge from audio and visual modality". Ours is the rest:

    * the main stream is the ridge regression on h = [ReLU(a R_a); ReLU(v R_v); ReLU([a; v] R_j)], exact and blind to
      the order given the first session, which fixes the standardisation (solved from sums; recursive least squares has
      the same solution);
    * compensation as in DS-AL (AAAI 2024): for each modality a ridge regression, on tanh(a R_a) or tanh(v R_v), of what
      the main stream left over, Y - h W, where columns of classes that the session does not have are set to 0 (DS-AL's
      cleansing of previous labels). Half of each, times ``compensation``, is added to the scores. What was left over is
      that of the main stream at the end of the clip's session, so this part depends on the order of the sessions.

    A missing modality has zeros in its own streams, so it says nothing there.
    """

    Settings = MMALSettings
    FITTED: ClassVar[tuple[str, ...]] = ("weight", "audio_weight", "visual_weight")

    def __init__(self, settings: MMALSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        if not self.settings.penalty > 0:
            raise HarkbackError("the penalty of mmal must be above 0", mend="0.1 is the default")
        self.seed = torch.randint(2**62, (), generator=self.generator)  #: of the random projections
        self.standard = FirstStandard()
        self.main, self.audio, self.visual = Root(), Root(), Root()
        nothing = torch.zeros(0, 0, dtype=torch.float64)
        self.weight = nothing  #: (3 features, classes)
        self.audio_weight = self.visual_weight = nothing  #: (features, classes)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        audio, visual = self.standard.learn(features)
        y = one_hot(targets, len(self.classes)).double()
        streams = [self._streams(audio[rows], visual[rows]) for rows in batches(len(y), BLOCK)]
        self.main.absorb((_rectified(part), aims) for part, aims in zip(streams, y.split(BLOCK), strict=True))
        self.weight = self._ridge(self.main)
        left = y - torch.cat([_rectified(part) @ self.weight for part in streams])
        left *= y.any(0)
        for i, root in enumerate((self.audio, self.visual)):
            root.absorb((part[i].tanh(), aims) for part, aims in zip(streams, left.split(BLOCK), strict=True))
        self.audio_weight, self.visual_weight = self._ridge(self.audio), self._ridge(self.visual)

    def _ridge(self, root: Root) -> Tensor:
        energy = root.energy / root.count
        return root.ridge(self.settings.penalty * (energy if energy > 0 else 1.0))

    def _streams(self, audio: Tensor, visual: Tensor) -> list[Tensor]:
        """Projections of the sound, of the picture and of both: each (clips, features)."""
        joint = torch.cat([audio, visual], 1)
        return [
            (x @ projection(int(self.seed) + i, x.shape[1], self.settings.features)).div_(x.shape[1] ** 0.5)
            for i, x in enumerate((audio, visual, joint))
        ]

    def _scores(self, features: Features) -> Tensor:
        streams = self._streams(*self.standard(features))
        alone = streams[0].tanh() @ self.audio_weight + streams[1].tanh() @ self.visual_weight
        return _rectified(streams) @ self.weight + self.settings.compensation / 2 * alone


def _rectified(streams: list[Tensor]) -> Tensor:
    """(clips, 3 features) h of the main stream."""
    return torch.cat(streams, 1).relu_()
