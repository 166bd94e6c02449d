"""How the things of the demo look: small pictures made of signed distances, all frames of a clip at once.

A drawing takes a ``Pen`` and paints. It works in the thing's own coordinates: x to the right, y down, the origin in the
middle, about one unit to the edge. Every array is ``(frames, height, width)`` or broadcasts to it, so a part moves by
adding an ``(frames, 1, 1)`` array to its place. A signed distance is negative inside; divided by the size of a pixel
and clipped it is the coverage of the pixel, which is all the antialiasing there is.
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
    x, y = _turn(x, y, rng.uniform(-0.12, 0.12))
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


# The things.


def bell(pen: Pen, mouth: float) -> None:
    """A bell that swings from its top; ``mouth`` is half the width of its rim."""
    angle = 0.5 * pen.sway
    x, y = _turn(pen.x, pen.y + 0.85, angle)
    y = y - 0.85
    pen.fill(_ring(x, y + 0.92, 0.17, 0.07), (0.09, 0.6, 0.55))
    pen.fill(_circle(x - 0.5 * angle, y - 0.72, 0.2), (0.08, 0.7, 0.45))
    sides = _convex(x, y, ((-0.34, -0.5), (0.34, -0.5), (mouth, 0.55), (-mouth, 0.55)))
    pen.fill(np.minimum(sides, _circle(x, y + 0.42, 0.37)), (0.12, 0.75, 0.9))
    pen.fill(_bar(x, y, (-mouth - 0.04, 0.56), (mouth + 0.04, 0.56), 0.11), (0.11, 0.8, 0.8))


def beacon(pen: Pen) -> None:
    """A lamp on a foot whose light turns and flares."""
    x, y = pen.x, pen.y
    for angle in np.linspace(-1.2, 1.2, 5):
        u, v = _turn(x, y - 0.2, float(angle))
        ray = _bar(u, v, (0.0, -0.85), (0.0, -1.1), 0.0)
        pen.fill(ray + 0.04 - 0.14 * pen.beat, (0.14, 0.6, 1.0), line=False)  # no ray at all without a beat
    dome = np.maximum(np.minimum(_circle(x, y, 0.6), _box(x, y - 0.3, 0.6, 0.3)), y - 0.5)
    pen.fill(dome, (0.0, 0.85, 0.85))
    pen.fill(np.maximum(_ellipse(x - 0.4 * pen.sway, y, 0.2, 0.36), dome + 0.06), (0.02, 0.35, 1.0), line=False)
    pen.fill(_box(x, y - 0.68, 0.78, 0.2, 0.08), (0.6, 0.25, 0.35))


def whistle(pen: Pen) -> None:
    """A referee's whistle with a pea that dances."""
    x, y = _turn(pen.x, pen.y, 0.25 * pen.sway)
    mouth = _box(x - 0.45, y + 0.3, 0.6, 0.2, 0.05)
    pen.fill(_ring(x + 0.85, y - 0.1, 0.2, 0.06), (0.6, 0.1, 0.7))
    pen.fill(np.minimum(_circle(x + 0.25, y - 0.1, 0.6), mouth), (0.58, 0.5, 0.8))
    pen.fill(_box(x - 0.35, y + 0.3, 0.12, 0.14), (0.6, 0.3, 0.15), line=False)
    pen.fill(_circle(x + 0.25, y - 0.1, 0.34), (0.6, 0.4, 0.3))
    u, v = x + 0.25 - 0.2 * np.cos(2 * pen.spin), y - 0.1 - 0.2 * np.sin(2 * pen.spin)
    pen.fill(_circle(u, v, 0.14), (0.1, 0.6, 1.0), line=False)


def bird(pen: Pen, bill: float, flat: float) -> None:
    """A bird that opens its bill and lifts its wing; ``bill`` is its length, ``flat`` how flat it is."""
    x, y = pen.x, pen.y + 0.12 * pen.beat
    pen.fill(_convex(x, y, ((-1.1, -0.25), (-0.4, 0.05), (-0.45, 0.45), (-0.8, 0.3))), (0.57, 0.5, 0.55))
    for leg in (-0.15, 0.15):
        pen.fill(_bar(x, pen.y, (leg, 0.55), (leg + 0.06, 0.95), 0.05), (0.09, 0.8, 0.75))
    for side in (-1.0, 1.0):
        u, v = _turn(x - 0.62, y + 0.45, side * (0.05 + 0.5 * pen.beat))
        pen.fill(_convex(u, v, ((0.0, -0.16 * flat), (bill, 0.0), (0.0, 0.16 * flat))), (0.1, 0.9, 0.95))
    pen.fill(_ellipse(x + 0.1, y - 0.2, 0.68, 0.48), (0.56, 0.55, 0.85))
    pen.fill(_circle(x - 0.42, y + 0.45, 0.36), (0.56, 0.55, 0.9))
    u, v = _turn(x - 0.15, y - 0.1, -0.9 * pen.beat)
    pen.fill(_ellipse(u + 0.4, v, 0.45, 0.22), (0.58, 0.6, 0.6))
    pen.fill(_circle(x - 0.5, y + 0.52, 0.1), (0.0, 0.0, 0.1), line=False)


def motor(pen: Pen) -> None:
    """An engine that shakes, with a flywheel that turns as it revs."""
    x, y = pen.x - 0.06 * np.sign(pen.sway) * pen.beat, pen.y
    puff = _circle(x - 0.75, y + 0.75 + 0.2 * pen.beat, 0.28 * pen.beat)
    pen.fill(puff, (0.0, 0.0, 0.8), line=False)
    pen.fill(_box(x - 0.7, y + 0.3, 0.1, 0.32), (0.6, 0.2, 0.4))
    pen.fill(_box(x - 0.1, y - 0.2, 0.75, 0.45, 0.08), (0.98, 0.7, 0.65))
    for fin in (-0.45, -0.25, -0.05):
        pen.fill(_box(x - 0.15, y - fin, 0.5, 0.06), (0.6, 0.1, 0.75))
    pen.fill(_circle(x + 0.4, y - 0.3, 0.5), (0.6, 0.15, 0.5))
    for part in range(3):
        u, v = _turn(x + 0.4, y - 0.3, pen.spin + part * np.pi / 3)
        pen.fill(_box(u, v, 0.4, 0.05), (0.13, 0.5, 0.95), line=False)
    pen.fill(_circle(x + 0.4, y - 0.3, 0.13), (0.0, 0.0, 0.2), line=False)


def bee(pen: Pen) -> None:
    """A striped bee that hovers higher and beats wider wings as it hums."""
    x, y = _turn(pen.x, pen.y + 0.25 * pen.beat - 0.1, 0.2)
    for lean in (-0.5, 0.15):
        u, v = _turn(x - 0.05, y + 0.3, lean)
        pen.fill(_ellipse(u, v + 0.4, 0.2 + 0.14 * pen.beat, 0.45), (0.55, 0.18, 0.98))
    pen.fill(_convex(x, y, ((-1.0, 0.1), (-0.6, -0.1), (-0.6, 0.3))), (0.0, 0.0, 0.2))
    body = _ellipse(x, y - 0.08, 0.75, 0.46)
    pen.fill(body, (0.13, 0.85, 0.98))
    for stripe in (-0.42, -0.05, 0.3):
        pen.fill(np.maximum(_box(x - stripe, y, 0.09, 0.6), body), (0.0, 0.1, 0.15), line=False)
    pen.fill(_circle(x - 0.68, y - 0.02, 0.3), (0.09, 0.6, 0.4))
    pen.fill(_circle(x - 0.78, y + 0.06, 0.09), (0.0, 0.0, 1.0), line=False)


def drum(pen: Pen) -> None:
    """A side drum and the two sticks that strike it."""
    x, y = pen.x, pen.y
    pen.fill(np.minimum(_box(x, y - 0.3, 0.75, 0.35), _ellipse(x, y - 0.65, 0.75, 0.25)), (0.98, 0.75, 0.75))
    for low in (-0.55, -0.05, 0.45):
        pen.fill(_bar(x, y, (low - 0.15, 0.05), (low + 0.2, 0.65), 0.04), (0.13, 0.5, 0.95), line=False)
    pen.fill(_ellipse(x, y + 0.05, 0.75, 0.26), (0.12, 0.15, 0.95))
    for side in (-1.0, 1.0):
        u, v = _turn(side * x - 0.85, y + 0.85, 0.65 - 0.6 * pen.beat)
        pen.fill(_bar(u, v, (0.0, 0.0), (-0.62, 0.62), 0.055), (0.08, 0.6, 0.7))


def ball(pen: Pen) -> None:
    """A beach ball that is flat on the ground at the beat and up in the air between."""
    squash = 0.2 * pen.beat
    height = 0.75 * (1.0 - pen.beat)
    pen.fill(_ellipse(pen.x, pen.y - 0.95, 0.45 + 0.2 * pen.beat, 0.08), (0.0, 0.0, 0.2), line=False)
    x, y = pen.x / (1.0 + squash), (pen.y - 0.32 + height) / (1.0 - squash)
    disc = _circle(x, y, 0.6)
    pen.fill(disc, (0.0, 0.03, 0.97))
    u, v = _turn(x, y, 0.5 * pen.spin)
    for part, hue in enumerate((0.0, 0.6, 0.13)):
        s, t = _turn(u, v, part * 2 * np.pi / 3)
        wedge = np.maximum(0.87 * np.abs(s) - 0.5 * t, disc)
        pen.fill(wedge, (hue, 0.8, 0.95), line=False)


def frog(pen: Pen, warts: float) -> None:
    """A frog whose throat swells as it calls; ``warts`` is the size of the spots on its back."""
    x, y = pen.x, pen.y
    for side in (-1.0, 1.0):
        pen.fill(_ellipse(side * x - 0.68, y - 0.5, 0.36, 0.32), (0.3, 0.65, 0.55))
    pen.fill(_ellipse(x, y - 0.15, 0.78, 0.62), (0.3, 0.65, 0.75))
    for spot in ((-0.5, -0.1), (0.1, -0.3), (0.52, 0.0), (-0.2, -0.22)):
        pen.fill(_circle(x - spot[0], y - spot[1], warts), (0.26, 0.7, 0.45), line=False)
    pen.fill(_ellipse(x, y - 0.55, 0.3 + 0.3 * pen.beat, 0.14 + 0.4 * pen.beat), (0.2, 0.3, 0.97))
    pen.fill(_bar(x, y, (-0.5, 0.16), (0.5, 0.16), 0.03), (0.3, 0.6, 0.2), line=False)
    for side in (-1.0, 1.0):
        pen.fill(_circle(side * x - 0.4, y + 0.48, 0.25), (0.3, 0.6, 0.8))
        pen.fill(_circle(side * x - 0.42, y + 0.5, 0.14), (0.15, 0.2, 1.0), line=False)
        pen.fill(_circle(side * x - 0.42, y + 0.5, 0.08), (0.0, 0.0, 0.05), line=False)


def clock(pen: Pen) -> None:
    """A wall clock whose hand jumps and whose pendulum swings."""
    u, v = _turn(pen.x, pen.y - 0.2, 1.3 * pen.sway)
    pen.fill(_bar(u, v, (0.0, 0.0), (0.0, 0.75), 0.05), (0.1, 0.7, 0.6))
    pen.fill(_circle(u, v - 0.8, 0.17), (0.12, 0.8, 0.9))
    x, y = pen.x, pen.y + 0.2
    pen.fill(_circle(x, y, 0.78), (0.07, 0.65, 0.5))
    pen.fill(_circle(x, y, 0.58), (0.13, 0.1, 0.98), line=False)
    for hour in range(4):
        s, t = _turn(x, y, hour * np.pi / 2)
        pen.fill(_box(s, t - 0.47, 0.04, 0.08), (0.0, 0.0, 0.15), line=False)
    for angle, length in ((0.7 * pen.spin, 0.5), (0.1 * pen.spin + 2.0, 0.32)):
        s, t = _turn(x, y, angle)
        pen.fill(_bar(s, t, (0.0, 0.0), (0.0, -length), 0.055), (0.0, 0.3, 0.12), line=False)


def metronome(pen: Pen) -> None:
    """A metronome: a wooden wedge before which a rod swings."""
    x, y = pen.x, pen.y
    pen.fill(_convex(x, y, ((-0.28, -0.9), (0.28, -0.9), (0.72, 0.9), (-0.72, 0.9))), (0.06, 0.7, 0.55))
    pen.fill(_convex(x, y, ((-0.14, -0.7), (0.14, -0.7), (0.3, 0.4), (-0.3, 0.4))), (0.11, 0.35, 0.9))
    pen.fill(_box(x, y - 0.68, 0.55, 0.1), (0.07, 0.6, 0.35))
    u, v = _turn(x, y - 0.5, 0.9 * pen.sway)
    pen.fill(_bar(u, v, (0.0, 0.0), (0.0, -1.5), 0.05), (0.6, 0.05, 0.85))
    pen.fill(_box(u, v + 0.95, 0.16, 0.13), (0.6, 0.1, 0.4))


def cricket(pen: Pen, body: float) -> None:
    """A grasshopper-like insect that rubs its hind leg; ``body`` is half its thickness."""
    x, y = pen.x, pen.y
    for lean in (-0.25, 0.2):
        pen.fill(_bar(x, y, (0.6, -0.15), (1.05, -0.75 + lean), 0.025), (0.2, 0.5, 0.3), line=False)
    for foot in (0.05, 0.4, 0.65):
        pen.fill(_bar(x, y, (foot - 0.1, 0.2), (foot, 0.75), 0.04), (0.22, 0.6, 0.35), line=False)
    pen.fill(_ellipse(x + 0.1, y - 0.08, 0.8, body), (0.22, 0.7, 0.65))
    pen.fill(_ellipse(x + 0.3, y + 0.06 + 0.16 * pen.beat, 0.65, 0.16), (0.19, 0.6, 0.85))
    pen.fill(_circle(x - 0.62, y - 0.02, 0.27), (0.22, 0.65, 0.7))
    pen.fill(_circle(x - 0.7, y + 0.06, 0.09), (0.0, 0.0, 0.08), line=False)
    u, v = _turn(x, y - 0.15, 0.75 * pen.beat)
    pen.fill(_bar(u, v, (0.0, 0.0), (-0.5, -0.68), 0.12), (0.2, 0.75, 0.8))
    pen.fill(_bar(u, v, (-0.5, -0.68), (-0.85, 0.5), 0.05), (0.2, 0.7, 0.5))


def telephone(pen: Pen) -> None:
    """An old telephone whose handset jumps off the hook as it rings."""
    x, y = pen.x, pen.y
    pen.fill(_convex(x, y, ((-0.4, -0.2), (0.4, -0.2), (0.8, 0.8), (-0.8, 0.8))), (0.47, 0.7, 0.6))
    pen.fill(_circle(x, y - 0.35, 0.34), (0.12, 0.1, 0.95))
    for hole in range(6):
        u, v = _turn(x, y - 0.35, hole * np.pi / 3)
        pen.fill(_circle(u, v - 0.22, 0.06), (0.0, 0.0, 0.15), line=False)
    u, v = _turn(x, y + 0.42 + 0.25 * pen.beat, 0.5 * pen.sway)
    ends = np.minimum(_box(u - 0.7, v - 0.12, 0.2, 0.2, 0.08), _box(u + 0.7, v - 0.12, 0.2, 0.2, 0.08))
    pen.fill(np.minimum(_bar(u, v, (-0.65, -0.05), (0.65, -0.05), 0.15), ends), (0.47, 0.75, 0.5))


def gong(pen: Pen) -> None:
    """A red fire alarm on a wall plate, with a hammer that strikes it."""
    x, y = pen.x - 0.08 * pen.sway, pen.y
    pen.fill(_box(pen.x, pen.y, 0.85, 0.85, 0.1), (0.6, 0.05, 0.9))
    u, v = _turn(pen.x - 0.65, pen.y - 0.7, 0.5 * pen.beat)
    pen.fill(_bar(u, v, (0.0, 0.0), (0.12, -0.95), 0.05), (0.0, 0.0, 0.4))
    pen.fill(_circle(x + 0.12, y + 0.08, 0.66), (0.0, 0.85, 0.85))
    pen.fill(_ring(x + 0.12, y + 0.08, 0.38, 0.03), (0.0, 0.8, 0.5), line=False)
    pen.fill(_circle(x + 0.12, y + 0.08, 0.14), (0.13, 0.4, 0.95))
    pen.fill(_circle(u - 0.12, v + 0.95, 0.15), (0.0, 0.0, 0.5))


def strings(pen: Pen, waist: float) -> None:
    """A guitar or a fiddle that rocks as it is played; ``waist`` is how far its two bouts lie apart."""
    x, y = _turn(pen.x, pen.y, 0.6 + 0.45 * pen.sway)
    pen.fill(_box(x, y + 0.85, 0.1, 0.4), (0.07, 0.6, 0.3))
    pen.fill(_box(x, y + 1.15, 0.17, 0.14), (0.07, 0.6, 0.4))
    bouts = np.minimum(_circle(x, y - 0.55, 0.56), _circle(x, y - 0.55 + waist, 0.42))
    pen.fill(bouts, (0.07, 0.8, 0.75))
    pen.fill(_circle(x, y - 0.25, 0.2), (0.05, 0.7, 0.2), line=False)
    pen.fill(_box(x, y - 0.72, 0.24, 0.06), (0.06, 0.7, 0.25), line=False)
    for string in (-0.06, 0.06):
        pen.fill(_box(x - string * (1 + 1.2 * pen.beat), y + 0.2, 0.02, 0.9), (0.13, 0.15, 1.0), line=False)


def cloud(pen: Pen) -> None:
    """A cloud out of which it pours, now more, now less."""
    x, y = pen.x, pen.y
    time = np.arange(FRAMES, dtype=np.float32)[:, None, None]
    for number, place in enumerate((-0.6, -0.3, 0.0, 0.3, 0.6)):
        fall = (0.37 * number + 0.29 * time) % 1.0
        drop = _bar(x + 0.15 * fall - place, y - 0.2 - 0.7 * fall, (0.0, 0.0), (-0.05, 0.18), 0.02)
        pen.fill(drop + 0.05 - 0.11 * pen.beat, (0.58, 0.75, 0.95), line=False)
    puffs = np.minimum(_circle(x + 0.5, y + 0.2, 0.36), _circle(x - 0.5, y + 0.2, 0.38))
    pen.fill(np.minimum(puffs, _ellipse(x, y + 0.4, 0.52, 0.46 + 0.08 * pen.beat)), (0.6, 0.12, 0.85))


def pan(pen: Pen) -> None:
    """A frying pan with an egg that shivers and spits."""
    x, y = pen.x, pen.y
    pen.fill(_bar(x, y, (0.4, -0.4), (1.0, -0.95), 0.11), (0.06, 0.6, 0.4))
    pen.fill(_ellipse(x + 0.1, y - 0.1, 0.85, 0.75), (0.62, 0.2, 0.3))
    pen.fill(_ellipse(x + 0.1, y - 0.1, 0.68, 0.58), (0.62, 0.15, 0.18), line=False)
    u, v = x + 0.1 + 0.1 * pen.sway, y - 0.1
    white = np.minimum(_ellipse(u, v, 0.36 + 0.14 * pen.beat, 0.34), _circle(u - 0.22, v - 0.15, 0.25))
    pen.fill(white, (0.13, 0.04, 1.0), line=False)
    pen.fill(_circle(u, v, 0.16 + 0.05 * pen.beat), (0.12, 0.85, 1.0), line=False)
    for spot in ((-0.55, -0.7), (0.1, -0.95), (-0.15, -0.55), (0.45, -0.65)):
        pen.fill(_circle(x - spot[0], y - spot[1] + 0.15 * pen.beat, 0.11) + 0.13 * (1 - pen.beat), (0.13, 0.3, 1.0))


def dog(pen: Pen, ears: float) -> None:
    """The head of a dog or a wolf, which lifts its nose and opens its mouth; ``ears`` is how far they stand up."""
    x, y = _turn(pen.x, pen.y, -0.15 + 0.3 * pen.beat)
    for side in (-1.0, 1.0):
        tip = (0.72, -ears)
        pen.fill(_convex(side * x, y, ((0.12, -0.5), tip, (0.62, -0.15))), (0.08, 0.5, 0.4))
    pen.fill(_circle(x, y + 0.05, 0.66), (0.08, 0.45, 0.62))
    pen.fill(_ellipse(x, y - 0.5 - 0.14 * pen.beat, 0.3, 0.16 + 0.2 * pen.beat), (0.98, 0.7, 0.5))
    pen.fill(_ellipse(x, y - 0.3, 0.38, 0.28), (0.09, 0.25, 0.85))
    pen.fill(_ellipse(x, y - 0.16, 0.15, 0.1), (0.0, 0.0, 0.08), line=False)
    for side in (-1.0, 1.0):
        pen.fill(_circle(side * x - 0.28, y + 0.18, 0.13), (0.13, 0.15, 1.0), line=False)
        pen.fill(_circle(side * x - 0.27, y + 0.16, 0.075), (0.0, 0.0, 0.05), line=False)


# Distances, in units: negative inside, positive outside.


def _turn(x: Array, y: Array, angle: Number) -> tuple[Array, Array]:
    """Coordinates in which a thing turned clockwise by ``angle`` radians lies straight."""
    c, s = np.cos(angle, dtype=np.float32), np.sin(angle, dtype=np.float32)
    return c * x + s * y, c * y - s * x


def _circle(x: Array, y: Array, radius: Number) -> Array:
    return np.sqrt(x * x + y * y) - radius


def _ring(x: Array, y: Array, radius: float, half: float) -> Array:
    """A circle's line, ``2 * half`` wide."""
    return np.abs(_circle(x, y, radius)) - half


def _ellipse(x: Array, y: Array, wide: Number, high: Number) -> Array:
    """First-order distance to an ellipse with these half axes: right at its edge, where the antialiasing looks."""
    near = np.sqrt((x / wide) ** 2 + (y / high) ** 2)
    slope = np.sqrt((x / wide**2) ** 2 + (y / high**2) ** 2) + np.float32(1e-3)
    return near * (near - 1.0) / slope - 1e-3 * (near < 0.05)


def _box(x: Array, y: Array, wide: float, high: float, round_: float = 0.0) -> Array:
    """An upright box with these half sides; its corners may be rounded."""
    u, v = np.abs(x) - (wide - round_), np.abs(y) - (high - round_)
    if not round_:
        return np.maximum(u, v)
    return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0) - round_


def _bar(x: Array, y: Array, start: Point, end: Point, radius: float) -> Array:
    """A stroke from ``start`` to ``end`` with round ends, ``2 * radius`` wide."""
    along, up = end[0] - start[0], end[1] - start[1]
    u, v = x - start[0], y - start[1]
    share = np.clip((u * along + v * up) / (along * along + up * up), 0.0, 1.0)
    return np.sqrt((u - share * along) ** 2 + (v - share * up) ** 2) - radius


def _convex(x: Array, y: Array, corners: tuple[Point, ...]) -> Array:
    """A convex polygon; its corners are named clockwise as one sees them (y points down)."""
    distance: Array | None = None
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        length = float(np.hypot(x1 - x0, y1 - y0))
        edge = ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
        distance = edge if distance is None else np.maximum(distance, edge)
    assert distance is not None
    return distance


def _smooth(rng: np.random.Generator, cells: int) -> Array:
    """(side, side) in [-1, 1]: ``cells`` x ``cells`` random values, blended by cosines."""
    place = np.linspace(0, cells - 1, SIDE, dtype=np.float32)
    near = np.abs(place[:, None] - np.arange(cells, dtype=np.float32))
    weight = np.where(near < 1, 0.5 + 0.5 * np.cos(np.pi * near), 0.0)
    return (weight @ rng.uniform(-1, 1, (cells, cells)) @ weight.T).astype(np.float32)
