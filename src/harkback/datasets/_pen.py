"""How the demo paints: a ground, a pen, and shapes to fill, all frames of a clip at once.

A thing is painted in its own coordinates: x to the right, y down, the origin in the middle, about one unit to the edge.
Every array is ``(frames, height, width)`` or broadcasts to it, so a part moves by adding an ``(frames, 1, 1)`` array to
its place. A signed distance is negative inside; divided by the size of a pixel and clipped it is the coverage of the
pixel, which is all the antialiasing there is.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]  # float32 throughout, for speed; numpy's stubs cannot follow that
Point = tuple[float, float]
Number = float | Array

FRAMES = 16
SIDE = 112  #: pixels
FPS = 8
INK: Array = np.asarray((0.09, 0.07, 0.10), np.float32)  #: the outline of every thing
REACH = 1.75  #: how far, in radii at rest, a drawing may go from its middle: beyond, it is cut off


@dataclass(frozen=True, slots=True)
class Pen:
    """Where, how large and in which colours one thing is painted."""

    canvas: Array  #: (frames, height, width, 3) in [0, 1]: the part of the picture around the thing, painted in place
    x: Array  #: (frames, height, width) units
    y: Array  #: (frames, height, width) units
    pixel: Array  #: (frames, 1, 1) units per pixel
    beat: Array  #: (frames, 1, 1) in [0, 1]: how hard the thing is at work
    sway: Array  #: (frames, 1, 1) in [-1, 1]: the beat, to the other side each time it comes
    spin: Array  #: (frames, 1, 1) radians: the work done so far
    light: Array  #: (frames, height, width) about 1: shading, the thing's texture and the flash of the beat
    tint: tuple[float, float, float]  #: shift of hue, factors of saturation and of value
    line: float  #: pixels of outline

    def fill(self, distance: Array, colour: tuple[float, float, float], *, line: bool = True) -> None:
        """Paint the inside of a shape in a colour ``(hue, saturation, value)``, each in [0, 1], and its outline."""
        hue, saturation, value = (self.tint[0] + colour[0]) % 1.0, self.tint[1] * colour[1], self.tint[2] * colour[2]
        rgb = np.asarray(colorsys.hsv_to_rgb(hue, min(1.0, saturation), min(1.0, value)), np.float32)
        edge = np.float32(self.line if line else 0.0)
        here = distance < (0.5 + edge) * self.pixel  # a tenth of the canvas, mostly: work on those pixels alone
        depth = 0.5 - distance[here] / np.broadcast_to(self.pixel, here.shape)[here]  # pixels
        inside = np.clip(depth, 0.0, 1.0)[:, None]
        paint = (self.light[here][:, None] * rgb - INK) * inside + INK if line else self.light[here][:, None] * rgb
        old = self.canvas[here]
        self.canvas[here] = old + np.minimum(depth + edge, 1.0)[:, None] * (paint - old)


def pen_at(
    picture: Array, rng: np.random.Generator, centre: Array, radius: float, beat: Array, *, light: float = 0.25
) -> Pen:
    """A pen for a thing of ``radius`` pixels that drifts along ``centre`` (frames, 2) and works to ``beat`` (frames,).

    ``picture`` is (frames, side, side, 3). The pen's canvas is a view of it, just large enough for the whole clip.
    """
    far = REACH * radius
    low = np.maximum(np.floor(centre.min(axis=0) - far), 0).astype(int)
    high = np.minimum(np.ceil(centre.max(axis=0) + far), SIDE).astype(int)
    canvas = picture[:, low[1] : high[1], low[0] : high[0]]
    beat3 = beat.astype(np.float32)[:, None, None]
    pixel = 1.0 / (radius * (0.88 + 0.22 * beat3))  # everything swells with its beat
    x = (np.arange(low[0], high[0], dtype=np.float32) + 0.5 - centre[:, :1])[:, None, :] * pixel
    y = (np.arange(low[1], high[1], dtype=np.float32) + 0.5 - centre[:, 1:])[:, :, None] * pixel
    x, y = turn(x, y, rng.uniform(-0.12, 0.12))
    x = x if rng.uniform() < 0.5 else -x  # facing left or right
    angle, pitch, depth = rng.uniform(0, np.pi), rng.uniform(5, 14), rng.uniform(0.0, 0.12)
    texture = depth * np.sin(pitch * (np.cos(angle) * x + np.sin(angle) * y))
    return Pen(
        canvas=canvas,
        x=x,
        y=y,
        pixel=pixel,
        beat=beat3,
        sway=_sway(beat)[:, None, None],
        spin=np.cumsum(beat3, axis=0, dtype=np.float32),
        light=(0.88 - 0.16 * y - 0.06 * x + texture + light * beat3).astype(np.float32),
        tint=(rng.uniform(-0.035, 0.035), rng.uniform(0.75, 1.1), rng.uniform(0.8, 1.08)),
        line=rng.uniform(0.8, 1.5),
    )


def _sway(beat: Array) -> Array:
    """(frames,) in [-1, 1]: as far as the ``beat``, to the other side at each new one, trembling while it lasts."""
    rises = np.diff(beat, prepend=beat[:1]) > 0.1
    new = rises & ~np.roll(rises, 1)
    side = 1.0 - 2.0 * (np.cumsum(new) % 2)
    tremble = np.where(np.arange(FRAMES) % 2, 0.7, 1.0)
    return np.asarray(side * tremble * beat, np.float32)


def wallpaper(rng: np.random.Generator) -> Array:
    """(side, side, 3) in [0, 1]: a muted, blotchy, finely woven ground, its own in every clip."""
    hue, value = rng.uniform(), rng.uniform(0.35, 0.8)
    one = np.asarray(colorsys.hsv_to_rgb(hue, rng.uniform(0.1, 0.35), value), np.float32)
    two = np.asarray(colorsys.hsv_to_rgb((hue + rng.uniform(-0.15, 0.15)) % 1, 0.3, value * rng.uniform(0.6, 0.9)))
    blotch = _smooth(rng, 5) + 0.5 * _smooth(rng, 11)
    grid = np.arange(SIDE, dtype=np.float32)
    angle, step = rng.uniform(0, np.pi), rng.uniform(0.35, 1.1)
    weave = np.sin(step * (np.cos(angle) * grid[:, None] + np.sin(angle) * grid[None, :]))
    mix = np.clip(0.5 + 0.5 * blotch, 0.0, 1.0)[..., None]
    ground = one * mix + two * (1.0 - mix) + rng.uniform(0.0, 0.03) * weave[..., None]
    return np.asarray(np.clip(ground, 0.0, 1.0), np.float32)


def _smooth(rng: np.random.Generator, cells: int) -> Array:
    """(side, side) in [-1, 1]: ``cells`` x ``cells`` random values, blended by cosines."""
    place = np.linspace(0, cells - 1, SIDE, dtype=np.float32)
    near = np.abs(place[:, None] - np.arange(cells, dtype=np.float32))
    weight = np.where(near < 1, 0.5 + 0.5 * np.cos(np.pi * near), 0.0)
    return (weight @ rng.uniform(-1, 1, (cells, cells)) @ weight.T).astype(np.float32)


# Distances, in units: negative inside, positive outside.


def turn(x: Array, y: Array, angle: Number) -> tuple[Array, Array]:
    """Coordinates in which a thing turned clockwise by ``angle`` radians lies straight."""
    c, s = np.cos(angle, dtype=np.float32), np.sin(angle, dtype=np.float32)
    return c * x + s * y, c * y - s * x


def circle(x: Array, y: Array, radius: Number) -> Array:
    return np.sqrt(x * x + y * y) - radius


def ring(x: Array, y: Array, radius: float, half: float) -> Array:
    """A circle's line, ``2 * half`` wide."""
    return np.abs(circle(x, y, radius)) - half


def ellipse(x: Array, y: Array, wide: Number, high: Number) -> Array:
    """First-order distance to an ellipse with these half axes: right at its edge, where the antialiasing looks."""
    near = np.sqrt((x / wide) ** 2 + (y / high) ** 2)
    slope = np.sqrt((x / wide**2) ** 2 + (y / high**2) ** 2) + np.float32(1e-3)
    return near * (near - 1.0) / slope - 1e-3 * (near < 0.05)


def box(x: Array, y: Array, wide: float, high: float, round_: float = 0.0) -> Array:
    """An upright box with these half sides; its corners may be rounded."""
    u, v = np.abs(x) - (wide - round_), np.abs(y) - (high - round_)
    if not round_:
        return np.maximum(u, v)
    return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0) - round_


def bar(x: Array, y: Array, start: Point, end: Point, radius: float) -> Array:
    """A stroke from ``start`` to ``end`` with round ends, ``2 * radius`` wide."""
    along, up = end[0] - start[0], end[1] - start[1]
    u, v = x - start[0], y - start[1]
    share = np.clip((u * along + v * up) / (along * along + up * up), 0.0, 1.0)
    return np.sqrt((u - share * along) ** 2 + (v - share * up) ** 2) - radius


def convex(x: Array, y: Array, corners: tuple[Point, ...]) -> Array:
    """A convex polygon; its corners are named clockwise as one sees them (y points down)."""
    distance: Array | None = None
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        length = float(np.hypot(x1 - x0, y1 - y0))
        edge = ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
        distance = edge if distance is None else np.maximum(distance, edge)
    assert distance is not None
    return distance
