"""A clip's tokens as one vector: mean, deviation and peak of the sound, and of the picture."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from harkback.features import READ, FeatureRows, Features, TokenShape, batches


def pooled_dim(shape: TokenShape) -> int:
    """Length of `pooled`'s vectors."""
    return 3 * (shape.audio_dim + shape.visual_dim) + 2


def pooled(features: Features) -> Tensor:
    """(clips, 3 audio_dim + 3 visual_dim + 2) float64.

    The last two columns say whether there was sound and picture. What is missing is zero throughout, so with those two
    columns a linear model can tell "silent" from "sounds like nothing".
    """
    return torch.cat([*summaries(features), torch.stack([features.heard, features.seen], 1).double()], 1)


def pooled_batches(rows: FeatureRows) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers and their `pooled` vectors, a batch at a time: a session may be larger than memory."""
    for batch in batches(len(rows), READ):
        yield batch, pooled(rows[batch])


def summaries(features: Features) -> tuple[Tensor, Tensor]:
    """(clips, 3 audio_dim) and (clips, 3 visual_dim) float64: mean, deviation and peak; zero where missing."""
    return _summary(features.audio, features.heard), _summary(features.visual.flatten(1, 2), features.seen)


def _summary(tokens: Tensor, there: Tensor) -> Tensor:
    """tokens: (clips, tokens, dim); there: (clips,) bool."""
    exact = tokens.to(torch.float64, copy=True)
    mean = exact.mean(1)
    spread = exact.sub_(mean[:, None]).square_().mean(1).sqrt()  # In place: most of the time goes with these passes.
    return torch.where(there[:, None], torch.cat([mean, spread, tokens.amax(1).double()], 1), 0.0)
