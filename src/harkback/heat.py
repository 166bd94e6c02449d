"""Where the sound made a learner look: the frames of some test clips with the heat over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isqrt
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from harkback.figures import as_uri, gradient, ramp
from harkback.log import Run
from harkback.metrics import Array
from harkback.state import State

MAP = "inferno"
ACROSS = 4  #: frames in one picture; a clip's pictures stand beside or below each other
SIDES = (128, 96, 64, 40)  #: pixels of a shown frame: the first that keeps the page small
BUDGET = 1_900_000  #: bytes of all pictures of a page, as they stand in it


@dataclass(frozen=True, slots=True)
class Shot:
    """One clip: what it was, what the learner said, where it looked."""

    id: str
    truth: str
    said: str
    score: float  #: of what it said
    true_score: float
    focus: float  #: share of the look on the tenth of the patches that it looked at most; 0.1: everywhere alike
    pictures: tuple[str, ...]  #: data: URIs; frames above, the same with heat below

    @property
    def right(self) -> bool:
        return self.said == self.truth


@dataclass(frozen=True, slots=True)
class Gallery:
    """The pictures of one run."""

    learner: str
    shots: tuple[Shot, ...]
    note: str  #: why there are none

    def where(self, right: bool) -> list[Shot]:
        return [shot for shot in self.shots if shot.right is right]


def galleries(runs: Sequence[Run], clips: Sequence[dict[str, Any]]) -> list[Gallery]:
    """The runs that kept pictures, all of one size so that they fit in a page. clips: bench.json's test clips."""
    kept = [(run, arrays) for run in runs for arrays in run.looks()]
    for side in SIDES:
        found = [_gallery(run, arrays, clips, side) for run, arrays in kept]
        if sum(len(uri) for g in found for shot in g.shots for uri in shot.pictures) <= BUDGET:
            break
    return found


def _gallery(run: Run, looks: State, clips: Sequence[dict[str, Any]], side: int) -> Gallery:
    if not len(looks["rows"]):
        return Gallery(run.learner, (), "No picture was kept: none of the chosen clips has frames that can be read.")
    heat = looks["heat"]  # (n, frames, patches)
    grid = isqrt(heat.shape[2])
    if grid * grid != heat.shape[2]:
        return Gallery(run.learner, (), f"Its {heat.shape[2]} patches a frame form no square, so they cannot be laid.")
    last = run.done() - 1
    classes, scores, answered = run.facts(last)["classes"], run.scores(last), run.answered()[last]
    place = {int(row): i for i, row in enumerate(answered.rows)}
    shots = []
    for n, row in enumerate(looks["rows"].tolist()):
        said, truth = int(answered.said[place[row]]), int(answered.truth[place[row]])
        of = scores[place[row]]
        shots.append(
            Shot(
                clips[row]["id"],
                classes[truth],
                classes[said],
                float(of[said]),
                float(of[truth]),
                focus(heat[n]),
                _strips(looks["pictures"][n], heat[n].unflatten(1, (grid, grid)), side),
            )
        )
    return Gallery(run.learner, tuple(shots), "")


def focus(heat: Tensor) -> float:
    """`Shot.focus` of a heat (frames, patches) of any sum."""
    flat = heat.flatten().double()
    return float(flat.topk(ceil(len(flat) / 10)).values.sum() / flat.sum().clamp_min(1e-12))


def _strips(frames: Tensor, heat: Tensor, side: int) -> tuple[str, ...]:
    """frames: (frames, height, width, 3) uint8; heat: (frames, grid, grid)."""
    return tuple(as_uri(sheet, "WEBP", quality=72) for sheet in sheets(frames, heat, (side, side), ACROSS))


def sheets(frames: Tensor, heat: Tensor | None, size: tuple[int, int], across: int) -> list[Image.Image]:
    """Pictures of ``across`` frames side by side; below each the same with the heat over it, where there is heat.

    frames: (frames, height, width, 3) uint8, shown in ``size`` (height, width); heat: (frames, grid, grid), of any
    sum. The hottest patch of the clip is 1.
    """
    height, width = size
    small = interpolate(frames.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True)
    plain = (small / 255).clamp(0, 1).permute(0, 2, 3, 1).double().numpy()
    rows = [plain]
    if heat is not None:
        smooth = interpolate(heat[:, None].float(), size, mode="bilinear")[:, 0]
        glow = (smooth / smooth.max().clamp_min(1e-12)).double().numpy()
        rows.append(_blend(0.8 * plain @ np.array([0.299, 0.587, 0.114]), glow))
    across = min(across, len(frames))
    found = []
    for first in range(0, len(frames), across):
        # A hair of white between frames.
        sheet = np.ones((len(rows) * (height + 2) - 2, across * (width + 2) - 2, 3))
        for i, row in enumerate(rows):
            for k, frame in enumerate(row[first : first + across]):
                top, left = i * (height + 2), k * (width + 2)
                sheet[top : top + height, left : left + width] = frame
        found.append(Image.fromarray((255 * sheet).round().astype(np.uint8)))
    return found


def _blend(grey: Array, glow: Array) -> Array:
    """The heat's colour over grey, the stronger the hotter, and still to be seen where it is faint.

    grey, glow: (...), 0..1. (..., 3)
    """
    colour = ramp(MAP)[(90 + 165 * glow).round().astype(np.int64)]
    weight = 0.85 * np.sqrt(glow)[..., None]
    return (1 - weight) * grey[..., None] + weight * colour


def key() -> str:
    """The colours of `_blend` over a dark grey, least to most, as a CSS gradient."""
    glow = np.linspace(0, 1, 9)
    return gradient(_blend(np.full_like(glow, 0.2), glow))
