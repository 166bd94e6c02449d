"""A media file -> sound and pictures, through PyAV (FFmpeg)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Media:
    """What was decoded from one clip."""

    waveform: Tensor | None  #: (channels, samples) float32 in [-1, 1]; None: the clip has no sound
    sample_rate: int  #: Hz
    frames: Tensor | None  #: (frames, height, width, 3) uint8 RGB; None: the clip has no picture
    times: Tensor  #: (frames,) seconds from the start of the clip
    duration: float  #: seconds that the clip lasts
