"""Decoded pictures -> the pixels a vision tower was trained on, bit for bit, and those that people are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True, slots=True)
class Squeeze:
    """A picture squeezed to a square, its proportions given up. Small enough to travel: it runs in worker processes."""

    side: int  #: pixels
    mode: Literal["bicubic", "bilinear"]

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, 3) -> (side, side, 3)."""
        square: NDArray[np.uint8] = self.all(torch.from_numpy(np.ascontiguousarray(picture))[None])[0].numpy()
        return square

    def all(self, pictures: Tensor) -> Tensor:
        """(n, height, width, 3) uint8 -> (n, side, side, 3) uint8; squares of that size pass unchanged."""
        return resized(pictures.permute(0, 3, 1, 2), self.side, self.mode).permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class Fit:
    """A picture in its own proportions, as large as fits; for people to look at."""

    side: int  #: pixels of the longer side

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, 3) -> (height, width, 3)."""
        height, width = picture.shape[:2]
        scale = self.side / max(height, width)
        size = max(1, round(scale * height)), max(1, round(scale * width))
        rows = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
        small = interpolate(rows, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        fitted: NDArray[np.uint8] = small.round().to(torch.uint8).numpy()
        return fitted


def resized(pictures: Tensor, side: int, mode: Literal["bicubic", "bilinear"]) -> Tensor:
    """(n, 3, height, width) uint8 or float -> (n, 3, side, side) of the same kind.

    What torchvision's ``Resize((side, side), antialias=True)`` does to tensors: bytes are resampled as floats, then
    clamped (bicubic weights overshoot) and rounded; floats keep what they become; the right size is left alone.
    """
    if pictures.shape[-2:] == (side, side):
        return pictures
    if pictures.is_floating_point():
        return interpolate(pictures, (side, side), mode=mode, align_corners=False, antialias=True)
    # One at a time: eight pictures of a 4K film as floats would be 800 MB.
    small = [
        interpolate(picture[None].float(), (side, side), mode=mode, align_corners=False, antialias=True)
        .clamp(0, 255)
        .round()
        .to(torch.uint8)
        for picture in pictures
    ]
    return torch.cat(small) if small else pictures.new_empty(0, 3, side, side)


def pixels(pictures: Tensor) -> Tensor:
    """(n, 3, side, side) in 0..255, bytes or floats -> float32 in [-1, 1]."""
    return (pictures.float() / 255 - 0.5) / 0.5
