"""A clip's tokens as one vector: mean, deviation and peak of the sound, and of the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from harkback.features import Features, TokenShape


def pooled_dim(shape: TokenShape) -> int:
    """Length of `pooled`'s vectors."""
    return 3 * (shape.audio_dim + shape.visual_dim) + 2


def pooled(features: Features) -> Tensor:
    """(clips, 3 audio_dim + 3 visual_dim + 2) float64.

    The last two columns say whether there was sound and picture. What is missing is zero throughout, so with those two
    columns a linear model can tell "silent" from "sounds like nothing".
    """
    parts = []
    for tokens, there in (
        (features.audio.double(), features.heard),
        (features.visual.double().flatten(1, 2), features.seen),
    ):
        summary = torch.cat([tokens.mean(1), tokens.std(1, correction=0), tokens.amax(1)], 1)
        parts.append(torch.where(there[:, None], summary, 0.0))
    return torch.cat([*parts, torch.stack([features.heard, features.seen], 1).double()], 1)


def inverse_deviation(variance: Tensor, mean_square: Tensor) -> Tensor:
    """1 / standard deviation of each column; 0 for a column that never moved: it says nothing.

    variance: (columns,), a difference of sums, so only as exact as ``mean_square`` (columns,) times float64's rounding.
    """
    moves = variance > 1e-12 * mean_square.clamp_min(1)
    return torch.where(moves, variance.clamp_min(1e-300).rsqrt(), 0.0)


def with_room(sums: Tensor, classes: int, *columns: int) -> Tensor:
    """Sums by class (known classes, *columns), float64, with rows of zeros for the classes that are new."""
    grown = torch.zeros(classes, *columns, dtype=torch.float64)
    if len(sums):
        grown[: len(sums)] = sums
    return grown
