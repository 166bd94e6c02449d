"""A vision tower with what it takes to show it people's pictures: squares of pixels, on its device, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from harkback.encoders._device import in_batches
from harkback.encoders._vision import VisionTower
from harkback.media import Media
from harkback.pictures import Squeeze, pixels

AT_ONCE = {"cuda": 64, "cpu": 2}  #: pictures, of any number of clips; a CPU is no faster with more


@dataclass(frozen=True, slots=True)
class Eye:
    """Pictures are (n, height, width, 3) uint8 RGB of any size."""

    tower: VisionTower
    squeeze: Squeeze
    device: torch.device

    def patches(self, pictures: Tensor, layer: int = -1) -> Tensor:
        """-> (n, patches, width) after block ``layer``, normalised."""
        return self._asked(pictures, lambda x: self.tower.patches(self.tower.stream(x, layer)))

    def vectors(self, pictures: Tensor) -> Tensor:
        """-> (n, dim)."""
        return self._asked(pictures, self.tower)

    def of_clips(
        self, media: Sequence[Media], layer: int, side: int, *, vectors: bool
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """(pictures, side * side, width) and (pictures, dim) by the clip's place, where it has pictures; from one pass.

        side: patches a side that the tower's are averaged into, 0: patches are not wanted; vectors: whether they are.
        """
        seen = {i: self.squeeze.all(clip.frames) for i, clip in enumerate(media) if clip.frames is not None}
        if not seen:
            return {}, {}
        tower, dense = self.tower, side * side * self.tower.width

        def run(x: Tensor) -> Tensor:
            if not side:
                alone: Tensor = tower(x)
                return alone
            if not vectors:
                return gridded(tower.patches(tower.stream(x, layer)), side).flatten(1)
            tokens, vector = tower.look(x, layer)
            return torch.cat([gridded(tokens, side).flatten(1).float(), vector], 1)

        found = self._asked(torch.cat(list(seen.values())), run).split([len(frames) for frames in seen.values()])
        by_clip = dict(zip(seen, found, strict=True))
        return (
            {i: x[:, :dense].unflatten(1, (side * side, tower.width)) for i, x in by_clip.items() if side},
            {i: x[:, dense:] for i, x in by_clip.items() if vectors},
        )

    def _asked(self, pictures: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """``run`` of the pixels (n, 3, side, side) of all pictures, some at a time."""
        squares = self.squeeze.all(pictures).permute(0, 3, 1, 2)
        at_once = AT_ONCE.get(self.device.type, AT_ONCE["cpu"])
        with torch.no_grad():
            return in_batches(lambda part: run(pixels(part.to(self.device))), squares, at_once)


def gridded(patches: Tensor, side: int) -> Tensor:
    """(n, patches, dim) of a square grid, row by row -> (n, side * side, dim), averaged."""
    own = round(patches.shape[1] ** 0.5)
    grid = patches.transpose(1, 2).unflatten(2, (own, own))
    return adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)
