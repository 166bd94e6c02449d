"""A clip's tokens as one vector: mean, deviation and peak of the sound, and of the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from harkback.buffer import reading
from harkback.features import FeatureRows, Features, TokenShape
from harkback.ledger import Ledger
from harkback.moments import Moments
from harkback.parallel import Share, shared
from harkback.pieces import CACHED

VECTORS = 1024  #: given at a time: the sum of their products is read and written once for all of them


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
    """Row numbers and their `pooled` vectors, many at a time, not all: a session may be larger than memory."""
    numbers: list[Tensor] = []
    vectors: list[Tensor] = []
    for batch, clips in reading(rows):
        numbers.append(batch)
        vectors.append(pooled(clips))
        if sum(map(len, vectors)) >= VECTORS:
            yield torch.cat(numbers), torch.cat(vectors)
            numbers, vectors = [], []
    if vectors:
        yield torch.cat(numbers), torch.cat(vectors)


def add_pooled(
    moments: Moments,
    rows: FeatureRows,
    targets: Tensor,
    classes: int,
    *,
    weight: Tensor | None = None,
    ledger: Ledger | None = None,
) -> None:
    """Add the `pooled` vectors of all clips to sums. Every process adds up its share, unless a ledger wants every clip.

    targets: (clips,) long; classes: known in all; weight: (classes,) of a clip of each, or 1.
    """
    share = shared(len(rows)) if ledger is None else Share(len(rows))
    sums = moments if share.processes == 1 else Moments(products=moments.full)
    sums.make_room(pooled_dim(rows.shape), classes)
    mine = targets[share.once]
    for some, x in pooled_batches(share.once_each(rows)):
        sums.add(x, mine[some], classes, None if weight is None else weight[mine[some]])
        if ledger is not None:
            ledger.clips(mine[some], x)
    if sums is not moments:
        sums.add_up()
        moments.merge(sums, torch.arange(classes), classes)


def summaries(features: Features) -> tuple[Tensor, Tensor]:
    """(clips, 3 audio_dim) and (clips, 3 visual_dim) float64: mean, deviation and peak; zero where missing."""
    return _summary(features.audio, features.heard), _summary(features.visual.flatten(1, 2), features.seen)


def _summary(tokens: Tensor, there: Tensor) -> Tensor:
    """tokens: (clips, tokens, dim); there: (clips,) bool.

    Worked out in float32 (of float64 tokens: in float64): means are off by 1e-7 of the tokens' size, deviations by 1e-7
    of themselves, a thousandth of what rounding to half precision has changed in a token. A few clips at a time, which
    are read from memory once.
    """
    clips, count, dim = tokens.shape
    found = tokens.new_empty(clips, 3, dim, dtype=torch.promote_types(tokens.dtype, torch.float32))
    step = max(1, CACHED // max(1, count * dim))
    room = found.new_empty(min(step, clips), count, dim)
    with _one_thread():
        for part, (mean, spread, peak) in (
            (tokens[i : i + step], found[i : i + step].unbind(1)) for i in range(0, clips, step)
        ):
            x = room[: len(part)].copy_(part)
            torch.amax(x, 1, out=peak)
            torch.mean(x, 1, out=mean)
            torch.mean(x.sub_(mean[:, None]).square_(), 1, out=spread)
    found[:, 1].sqrt_()
    found[~there] = 0
    return found.flatten(1).double()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sharing steps of some 20 microseconds among threads takes longer than doing them: up to five times, measured."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
