"""Pictures of where a learner looked: a few test clips, right and wrong ones, with the heat over their frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harkback.clips import Clip
from harkback.features import FeatureRows
from harkback.learners.base import Looks
from harkback.media import MediaError, read
from harkback.pictures import Squeeze
from harkback.places import at_hand
from harkback.state import State

EACH = 4  #: clips shown of those that were right, and of those that were wrong
SIDE = 160  #: pixels of the longer side of a shown frame


def pictures_of(
    learner: Looks, features: FeatureRows, clips: Sequence[Clip], scores: Tensor, truth: Tensor, rows: Tensor
) -> State:
    """scores: (asked, classes); truth: (asked,); rows: (asked,) which of ``clips`` was asked.

    The clips are spread evenly over the right answers and over the wrong ones: nobody picks the pretty ones.
    """
    right = scores.argmax(1) == truth
    chosen = torch.cat([rows[_spread(right.nonzero().flatten())], rows[_spread((~right).nonzero().flatten())]])
    chosen = chosen[features[chosen].seen]
    kept, heats, pictures = [], [], []
    for row in chosen.tolist():
        part = features[torch.tensor([row])]
        frames = _frames(clips[row], part.shape.frames)
        if frames is not None:
            kept.append(row)
            heats.append(learner.heat(part)[0])
            pictures.append(frames)
    if not kept:
        return {"rows": torch.zeros(0, dtype=torch.long)}
    return {"rows": torch.tensor(kept), "heat": torch.stack(heats), "pictures": torch.stack(pictures)}


def _spread(found: Tensor) -> Tensor:
    """At most EACH of them, evenly."""
    if len(found) <= EACH:
        return found
    return found[torch.linspace(0, len(found) - 1, EACH).round().long()]


def _frames(clip: Clip, count: int) -> Tensor | None:
    """(frames, SIDE, SIDE, 3) uint8, squeezed to a square as encoders see it; None: the file is gone since."""
    square = Squeeze(SIDE, "bilinear")
    try:
        with at_hand(clip.path) as path:
            return read(path, frames=count, sample_rate=16_000, start=clip.start, end=clip.end, picture=square).frames
    except (MediaError, OSError):
        return None
