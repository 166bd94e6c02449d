"""Random features of standardised vectors: what makes a linear learner see more than lines."""

from __future__ import annotations

from threading import Lock

import torch
from torch import Tensor

from harkback.buffer import reading
from harkback.features import FeatureRows, Features
from harkback.moments import Kept, deviation
from harkback.parallel import shared
from harkback.pooling import summaries

DRAWN = 256 << 20  #: bytes of random projections that a process keeps


class Projections:
    """Random projections that were asked for, as many as `DRAWN` allows, or the last one."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[int, int, int], Tensor] = {}  # The last that was asked for comes last.
        self._lock = Lock()

    def __call__(self, seed: int, columns: int, features: int) -> Tensor:
        """(columns, features) float64 standard normal numbers: a function of the seed, so they need not be kept."""
        what = seed, columns, features
        with self._lock:
            found = self._drawn.pop(what, None)
            if found is None:
                some = torch.Generator().manual_seed(seed)
                found = torch.randn(columns, features, dtype=torch.float64, generator=some)
            self._drawn[what] = found
            while len(self._drawn) > 1 and sum(each.nbytes for each in self._drawn.values()) > DRAWN:
                del self._drawn[next(iter(self._drawn))]
        return found


projection = Projections()


class Scale(Kept):
    """Mean and scale of some columns, measured once."""

    def __init__(self) -> None:
        self.mean = torch.zeros(0, dtype=torch.float64)  #: (columns,); none: not measured yet
        self.scale = torch.zeros(0, dtype=torch.float64)  #: (columns,) 1 / deviation

    def measure(self, x: Tensor) -> None:
        """x: (clips, columns), at least one clip."""
        squares = x.square().mean(0)
        moved = deviation(x.var(0, correction=0), squares)
        typical = moved.square().mean().sqrt()
        # A column that never moved in the first session must not explode when it does later. Nothing moves in a session
        # of one clip: the size of its numbers has to do.
        least = 1e-2 * typical if typical > 0 else squares.mean().sqrt()
        self.mean, self.scale = x.mean(0), 1 / moved.clamp_min(least if least > 0 else 1.0)

    def __call__(self, x: Tensor, there: Tensor) -> Tensor:
        """x: (clips, columns), there: (clips,) bool. What is missing, or was never met, is zero: the mean."""
        return torch.where(there[:, None], (x - self.mean) * self.scale, 0.0) if len(self.mean) else torch.zeros_like(x)


class FirstStandard(Kept):
    """Standardisation of a clip's pooled vectors that is fixed by the first session, and kept ever after.

    A lift that is not linear cannot be corrected by algebra when means and deviations move, as `Moments` are, so what
    is learnt on top of this depends on which session came first, and on nothing else of the order. A modality that the
    first session lacks is fixed by the first that has it; the clips before have zeros there whatever it will be.
    """

    def __init__(self) -> None:
        self.audio = Scale()
        self.visual = Scale()

    def learn(self, rows: FeatureRows) -> tuple[Tensor, Tensor]:
        """The vectors of a session's clips, as when called; each clip is read once, by one of the processes."""
        share, shape = shared(len(rows)), rows.shape
        rows = share.of(rows)
        count = len(rows)
        audio, visual = (
            torch.empty(count, 3 * dim, dtype=torch.float64) for dim in (shape.audio_dim, shape.visual_dim)
        )
        heard, seen = (torch.empty(count, dtype=torch.bool) for _ in range(2))
        for batch, clips in reading(rows):
            audio[batch], visual[batch] = summaries(clips)
            heard[batch], seen[batch] = clips.heard, clips.seen
        audio, visual, heard, seen = (share.whole(array) for array in (audio, visual, heard, seen))
        for scale, x, there in ((self.audio, audio, heard), (self.visual, visual, seen)):
            if there.any() and not len(scale.mean):
                scale.measure(x[there])
        return self.audio(audio, heard), self.visual(visual, seen)

    def __call__(self, features: Features) -> tuple[Tensor, Tensor]:
        """(clips, 3 audio_dim) and (clips, 3 visual_dim) float64."""
        audio, visual = summaries(features)
        return self.audio(audio, features.heard), self.visual(visual, features.seen)
