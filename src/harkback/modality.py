"""Sound alone, picture alone: the same clips with one modality withheld, for any learner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from harkback.features import FeatureRows, Features, TokenShape

Modality = Literal["both", "audio", "visual"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@dataclass(frozen=True, slots=True)
class Only:
    """Rows of which only the sound, or only the picture, is there.

    The other is as small as tokens can be, and masked, so that a learner's memory is not filled, nor its bytes counted,
    with what it cannot use.
    """

    source: FeatureRows
    modality: Literal["audio", "visual"]

    @property
    def ids(self) -> tuple[str, ...]:
        return self.source.ids

    @property
    def shape(self) -> TokenShape:
        shape = self.source.shape
        if self.modality == "audio":
            return shape._replace(frames=1, patches=1, visual_dim=1)
        return shape._replace(audio_tokens=1, audio_dim=1)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Tensor) -> Features:
        part = self.source[rows]
        nothing = torch.zeros_like(part.heard)
        if self.modality == "audio":
            return replace(part, visual=part.visual.new_zeros(len(part), 1, 1, 1), seen=nothing)
        return replace(part, audio=part.audio.new_zeros(len(part), 1, 1), heard=nothing)


def only(rows: FeatureRows, modality: Modality) -> FeatureRows:
    return rows if modality == "both" else Only(rows, modality)
