"""Clips -> batches that a tower is asked in, and its tokens -> rows of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from harkback.encoders._time import spread
from harkback.features import Features, TokenShape
from harkback.media import Media

HALF = 65504.0  #: the largest number of half precision


def of_sounds(
    media: Sequence[Media], listen: Callable[[Tensor, list[int]], Tensor], tokens: int, hop: int
) -> dict[int, Tensor]:
    """Tokens (tokens, dim) of each sound, by the clip's place, averaged evenly over the clip.

    listen: of mono sounds (clips, samples) and the clips' places makes (clips, ceil(samples / hop), dim). Only sounds
    of one length are put together: padding would be heard.
    """
    lengths: dict[int, list[tuple[int, Tensor]]] = {}
    for i, clip in enumerate(media):
        if clip.waveform is not None:
            lengths.setdefault(clip.waveform.shape[1], []).append((i, clip.waveform.mean(0)))
    out: dict[int, Tensor] = {}
    for samples, alike in lengths.items():
        places = [i for i, _ in alike]
        found = listen(torch.stack([wave for _, wave in alike]), places)
        evenly = spread(tokens, found.shape[1], samples / hop).to(found.device)
        out.update(zip(places, evenly @ found.float(), strict=True))
    return out


def gathered(shape: TokenShape, count: int, heard: Mapping[int, Tensor], seen: Mapping[int, Tensor]) -> Features:
    """Rows from tokens by place: (audio_tokens, dim) and (frames, patches, dim). What is missing is zero and masked."""
    audio = torch.zeros(count, *shape[:2], dtype=torch.float16)
    visual = torch.zeros(count, *shape[2:], dtype=torch.float16)
    for rows, found in ((audio, heard), (visual, seen)):
        for i, tokens in found.items():
            numbers = tokens.float()  # Infinity stays what it is: such a clip is refused.
            rows[i] = torch.where(numbers.isinf(), numbers, numbers.clamp(-HALF, HALF))
    there = [torch.tensor([i in found for i in range(count)], dtype=torch.bool) for found in (heard, seen)]
    return Features(tuple(map(str, range(count))), audio, visual, *there)
