"""Sound alone, picture alone: the same clips with one modality withheld, for any learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from harkback.features import Arrays, FeatureRows, Features, TokenShape, gathered

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

    @property
    def dtype(self) -> torch.dtype:
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Tensor) -> Features:
        return gathered(self, rows)

    def fill(self, rows: Tensor, out: Arrays, at: Tensor) -> None:
        if self.modality == "audio":
            self.source.fill(rows, out._replace(visual=out.visual[:, :0]), at)
            absent, mask = out.visual, out.seen
        else:
            self.source.fill(rows, out._replace(audio=out.audio[:, :0]), at)
            absent, mask = out.audio, out.heard
        absent[at], mask[at] = 0, False


def only(rows: FeatureRows, modality: Modality) -> FeatureRows:
    return rows if modality == "both" else Only(rows, modality)
