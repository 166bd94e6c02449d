"""How the things of the demo look: each takes a ``Pen`` and paints itself; ``_pen`` explains coordinates and shapes."""

from __future__ import annotations

import numpy as np

from harkback.datasets._pen import FRAMES, Pen, bar, box, circle, convex, ellipse, ring, turn


def bell(pen: Pen, mouth: float) -> None:
    """A bell that swings from its top; ``mouth`` is half the width of its rim."""
    angle = 0.5 * pen.sway
    x, y = turn(pen.x, pen.y + 0.85, angle)
    y = y - 0.85
    pen.fill(ring(x, y + 0.92, 0.17, 0.07), (0.09, 0.6, 0.55))
    pen.fill(circle(x - 0.5 * angle, y - 0.72, 0.2), (0.08, 0.7, 0.45))
    sides = convex(x, y, ((-0.34, -0.5), (0.34, -0.5), (mouth, 0.55), (-mouth, 0.55)))
    pen.fill(np.minimum(sides, circle(x, y + 0.42, 0.37)), (0.12, 0.75, 0.9))
    pen.fill(bar(x, y, (-mouth - 0.04, 0.56), (mouth + 0.04, 0.56), 0.11), (0.11, 0.8, 0.8))


def beacon(pen: Pen) -> None:
    """A lamp on a foot whose light turns and flares."""
    x, y = pen.x, pen.y
    for angle in np.linspace(-1.2, 1.2, 5):
        u, v = turn(x, y - 0.2, float(angle))
        ray = bar(u, v, (0.0, -0.85), (0.0, -1.1), 0.0)
        pen.fill(ray + 0.04 - 0.14 * pen.beat, (0.14, 0.6, 1.0), line=False)  # no ray at all without a beat
    dome = np.maximum(np.minimum(circle(x, y, 0.6), box(x, y - 0.3, 0.6, 0.3)), y - 0.5)
    pen.fill(dome, (0.0, 0.85, 0.85))
    pen.fill(np.maximum(ellipse(x - 0.4 * pen.sway, y, 0.2, 0.36), dome + 0.06), (0.02, 0.35, 1.0), line=False)
    pen.fill(box(x, y - 0.68, 0.78, 0.2, 0.08), (0.6, 0.25, 0.35))


def whistle(pen: Pen) -> None:
    """A referee's whistle with a pea that dances."""
    x, y = turn(pen.x, pen.y, 0.25 * pen.sway)
    mouth = box(x - 0.45, y + 0.3, 0.6, 0.2, 0.05)
    pen.fill(ring(x + 0.85, y - 0.1, 0.2, 0.06), (0.6, 0.1, 0.7))
    pen.fill(np.minimum(circle(x + 0.25, y - 0.1, 0.6), mouth), (0.58, 0.5, 0.8))
    pen.fill(box(x - 0.35, y + 0.3, 0.12, 0.14), (0.6, 0.3, 0.15), line=False)
    pen.fill(circle(x + 0.25, y - 0.1, 0.34), (0.6, 0.4, 0.3))
    u, v = x + 0.25 - 0.2 * np.cos(2 * pen.spin), y - 0.1 - 0.2 * np.sin(2 * pen.spin)
    pen.fill(circle(u, v, 0.14), (0.1, 0.6, 1.0), line=False)


def bird(pen: Pen, bill: float, flat: float) -> None:
    """A bird that opens its bill and lifts its wing; ``bill`` is its length, ``flat`` how flat it is."""
    x, y = pen.x, pen.y + 0.12 * pen.beat
    pen.fill(convex(x, y, ((-1.1, -0.25), (-0.4, 0.05), (-0.45, 0.45), (-0.8, 0.3))), (0.57, 0.5, 0.55))
    for leg in (-0.15, 0.15):
        pen.fill(bar(x, pen.y, (leg, 0.55), (leg + 0.06, 0.95), 0.05), (0.09, 0.8, 0.75))
    for side in (-1.0, 1.0):
        u, v = turn(x - 0.62, y + 0.45, side * (0.05 + 0.5 * pen.beat))
        pen.fill(convex(u, v, ((0.0, -0.16 * flat), (bill, 0.0), (0.0, 0.16 * flat))), (0.1, 0.9, 0.95))
    pen.fill(ellipse(x + 0.1, y - 0.2, 0.68, 0.48), (0.56, 0.55, 0.85))
    pen.fill(circle(x - 0.42, y + 0.45, 0.36), (0.56, 0.55, 0.9))
    u, v = turn(x - 0.15, y - 0.1, -0.9 * pen.beat)
    pen.fill(ellipse(u + 0.4, v, 0.45, 0.22), (0.58, 0.6, 0.6))
    pen.fill(circle(x - 0.5, y + 0.52, 0.1), (0.0, 0.0, 0.1), line=False)


def motor(pen: Pen) -> None:
    """An engine that shakes, with a flywheel that turns as it revs."""
    x, y = pen.x - 0.06 * np.sign(pen.sway) * pen.beat, pen.y
    puff = circle(x - 0.75, y + 0.75 + 0.2 * pen.beat, 0.28 * pen.beat)
    pen.fill(puff, (0.0, 0.0, 0.8), line=False)
    pen.fill(box(x - 0.7, y + 0.3, 0.1, 0.32), (0.6, 0.2, 0.4))
    pen.fill(box(x - 0.1, y - 0.2, 0.75, 0.45, 0.08), (0.98, 0.7, 0.65))
    for fin in (-0.45, -0.25, -0.05):
        pen.fill(box(x - 0.15, y - fin, 0.5, 0.06), (0.6, 0.1, 0.75))
    pen.fill(circle(x + 0.4, y - 0.3, 0.5), (0.6, 0.15, 0.5))
    for part in range(3):
        u, v = turn(x + 0.4, y - 0.3, pen.spin + part * np.pi / 3)
        pen.fill(box(u, v, 0.4, 0.05), (0.13, 0.5, 0.95), line=False)
    pen.fill(circle(x + 0.4, y - 0.3, 0.13), (0.0, 0.0, 0.2), line=False)


def bee(pen: Pen) -> None:
    """A striped bee that hovers higher and beats wider wings as it hums."""
    x, y = turn(pen.x, pen.y + 0.25 * pen.beat - 0.1, 0.2)
    for lean in (-0.5, 0.15):
        u, v = turn(x - 0.05, y + 0.3, lean)
        pen.fill(ellipse(u, v + 0.4, 0.2 + 0.14 * pen.beat, 0.45), (0.55, 0.18, 0.98))
    pen.fill(convex(x, y, ((-1.0, 0.1), (-0.6, -0.1), (-0.6, 0.3))), (0.0, 0.0, 0.2))
    body = ellipse(x, y - 0.08, 0.75, 0.46)
    pen.fill(body, (0.13, 0.85, 0.98))
    for stripe in (-0.42, -0.05, 0.3):
        pen.fill(np.maximum(box(x - stripe, y, 0.09, 0.6), body), (0.0, 0.1, 0.15), line=False)
    pen.fill(circle(x - 0.68, y - 0.02, 0.3), (0.09, 0.6, 0.4))
    pen.fill(circle(x - 0.78, y + 0.06, 0.09), (0.0, 0.0, 1.0), line=False)


def drum(pen: Pen) -> None:
    """A side drum and the two sticks that strike it."""
    x, y = pen.x, pen.y
    pen.fill(np.minimum(box(x, y - 0.3, 0.75, 0.35), ellipse(x, y - 0.65, 0.75, 0.25)), (0.98, 0.75, 0.75))
    for low in (-0.55, -0.05, 0.45):
        pen.fill(bar(x, y, (low - 0.15, 0.05), (low + 0.2, 0.65), 0.04), (0.13, 0.5, 0.95), line=False)
    pen.fill(ellipse(x, y + 0.05, 0.75, 0.26), (0.12, 0.15, 0.95))
    for side in (-1.0, 1.0):
        u, v = turn(side * x - 0.85, y + 0.85, 0.65 - 0.6 * pen.beat)
        pen.fill(bar(u, v, (0.0, 0.0), (-0.62, 0.62), 0.055), (0.08, 0.6, 0.7))


def ball(pen: Pen) -> None:
    """A beach ball that is flat on the ground at the beat and up in the air between."""
    squash = 0.2 * pen.beat
    height = 0.75 * (1.0 - pen.beat)
    pen.fill(ellipse(pen.x, pen.y - 0.95, 0.45 + 0.2 * pen.beat, 0.08), (0.0, 0.0, 0.2), line=False)
    x, y = pen.x / (1.0 + squash), (pen.y - 0.32 + height) / (1.0 - squash)
    disc = circle(x, y, 0.6)
    pen.fill(disc, (0.0, 0.03, 0.97))
    u, v = turn(x, y, 0.5 * pen.spin)
    for part, hue in enumerate((0.0, 0.6, 0.13)):
        s, t = turn(u, v, part * 2 * np.pi / 3)
        wedge = np.maximum(0.87 * np.abs(s) - 0.5 * t, disc)
        pen.fill(wedge, (hue, 0.8, 0.95), line=False)


def frog(pen: Pen, warts: float) -> None:
    """A frog whose throat swells as it calls; ``warts`` is the size of the spots on its back."""
    x, y = pen.x, pen.y
    for side in (-1.0, 1.0):
        pen.fill(ellipse(side * x - 0.68, y - 0.5, 0.36, 0.32), (0.3, 0.65, 0.55))
    pen.fill(ellipse(x, y - 0.15, 0.78, 0.62), (0.3, 0.65, 0.75))
    for spot in ((-0.5, -0.1), (0.1, -0.3), (0.52, 0.0), (-0.2, -0.22)):
        pen.fill(circle(x - spot[0], y - spot[1], warts), (0.26, 0.7, 0.45), line=False)
    pen.fill(ellipse(x, y - 0.55, 0.3 + 0.3 * pen.beat, 0.14 + 0.4 * pen.beat), (0.2, 0.3, 0.97))
    pen.fill(bar(x, y, (-0.5, 0.16), (0.5, 0.16), 0.03), (0.3, 0.6, 0.2), line=False)
    for side in (-1.0, 1.0):
        pen.fill(circle(side * x - 0.4, y + 0.48, 0.25), (0.3, 0.6, 0.8))
        pen.fill(circle(side * x - 0.42, y + 0.5, 0.14), (0.15, 0.2, 1.0), line=False)
        pen.fill(circle(side * x - 0.42, y + 0.5, 0.08), (0.0, 0.0, 0.05), line=False)


def clock(pen: Pen) -> None:
    """A wall clock whose hand jumps and whose pendulum swings."""
    u, v = turn(pen.x, pen.y - 0.2, 1.3 * pen.sway)
    pen.fill(bar(u, v, (0.0, 0.0), (0.0, 0.75), 0.05), (0.1, 0.7, 0.6))
    pen.fill(circle(u, v - 0.8, 0.17), (0.12, 0.8, 0.9))
    x, y = pen.x, pen.y + 0.2
    pen.fill(circle(x, y, 0.78), (0.07, 0.65, 0.5))
    pen.fill(circle(x, y, 0.58), (0.13, 0.1, 0.98), line=False)
    for hour in range(4):
        s, t = turn(x, y, hour * np.pi / 2)
        pen.fill(box(s, t - 0.47, 0.04, 0.08), (0.0, 0.0, 0.15), line=False)
    for angle, length in ((0.7 * pen.spin, 0.5), (0.1 * pen.spin + 2.0, 0.32)):
        s, t = turn(x, y, angle)
        pen.fill(bar(s, t, (0.0, 0.0), (0.0, -length), 0.055), (0.0, 0.3, 0.12), line=False)


def metronome(pen: Pen) -> None:
    """A metronome: a wooden wedge before which a rod swings."""
    x, y = pen.x, pen.y
    pen.fill(convex(x, y, ((-0.28, -0.9), (0.28, -0.9), (0.72, 0.9), (-0.72, 0.9))), (0.06, 0.7, 0.55))
    pen.fill(convex(x, y, ((-0.14, -0.7), (0.14, -0.7), (0.3, 0.4), (-0.3, 0.4))), (0.11, 0.35, 0.9))
    pen.fill(box(x, y - 0.68, 0.55, 0.1), (0.07, 0.6, 0.35))
    u, v = turn(x, y - 0.5, 0.9 * pen.sway)
    pen.fill(bar(u, v, (0.0, 0.0), (0.0, -1.5), 0.05), (0.6, 0.05, 0.85))
    pen.fill(box(u, v + 0.95, 0.16, 0.13), (0.6, 0.1, 0.4))


def cricket(pen: Pen, body: float) -> None:
    """A grasshopper-like insect that rubs its hind leg; ``body`` is half its thickness."""
    x, y = pen.x, pen.y
    for lean in (-0.25, 0.2):
        pen.fill(bar(x, y, (0.6, -0.15), (1.05, -0.75 + lean), 0.025), (0.2, 0.5, 0.3), line=False)
    for foot in (0.05, 0.4, 0.65):
        pen.fill(bar(x, y, (foot - 0.1, 0.2), (foot, 0.75), 0.04), (0.22, 0.6, 0.35), line=False)
    pen.fill(ellipse(x + 0.1, y - 0.08, 0.8, body), (0.22, 0.7, 0.65))
    pen.fill(ellipse(x + 0.3, y + 0.06 + 0.16 * pen.beat, 0.65, 0.16), (0.19, 0.6, 0.85))
    pen.fill(circle(x - 0.62, y - 0.02, 0.27), (0.22, 0.65, 0.7))
    pen.fill(circle(x - 0.7, y + 0.06, 0.09), (0.0, 0.0, 0.08), line=False)
    u, v = turn(x, y - 0.15, 0.75 * pen.beat)
    pen.fill(bar(u, v, (0.0, 0.0), (-0.5, -0.68), 0.12), (0.2, 0.75, 0.8))
    pen.fill(bar(u, v, (-0.5, -0.68), (-0.85, 0.5), 0.05), (0.2, 0.7, 0.5))


def telephone(pen: Pen) -> None:
    """An old telephone whose handset jumps off the hook as it rings."""
    x, y = pen.x, pen.y
    pen.fill(convex(x, y, ((-0.4, -0.2), (0.4, -0.2), (0.8, 0.8), (-0.8, 0.8))), (0.47, 0.7, 0.6))
    pen.fill(circle(x, y - 0.35, 0.34), (0.12, 0.1, 0.95))
    for hole in range(6):
        u, v = turn(x, y - 0.35, hole * np.pi / 3)
        pen.fill(circle(u, v - 0.22, 0.06), (0.0, 0.0, 0.15), line=False)
    u, v = turn(x, y + 0.42 + 0.25 * pen.beat, 0.5 * pen.sway)
    ends = np.minimum(box(u - 0.7, v - 0.12, 0.2, 0.2, 0.08), box(u + 0.7, v - 0.12, 0.2, 0.2, 0.08))
    pen.fill(np.minimum(bar(u, v, (-0.65, -0.05), (0.65, -0.05), 0.15), ends), (0.47, 0.75, 0.5))


def gong(pen: Pen) -> None:
    """A red fire alarm on a wall plate, with a hammer that strikes it."""
    x, y = pen.x - 0.08 * pen.sway, pen.y
    pen.fill(box(pen.x, pen.y, 0.85, 0.85, 0.1), (0.6, 0.05, 0.9))
    u, v = turn(pen.x - 0.65, pen.y - 0.7, 0.5 * pen.beat)
    pen.fill(bar(u, v, (0.0, 0.0), (0.12, -0.95), 0.05), (0.0, 0.0, 0.4))
    pen.fill(circle(x + 0.12, y + 0.08, 0.66), (0.0, 0.85, 0.85))
    pen.fill(ring(x + 0.12, y + 0.08, 0.38, 0.03), (0.0, 0.8, 0.5), line=False)
    pen.fill(circle(x + 0.12, y + 0.08, 0.14), (0.13, 0.4, 0.95))
    pen.fill(circle(u - 0.12, v + 0.95, 0.15), (0.0, 0.0, 0.5))


def strings(pen: Pen, waist: float) -> None:
    """A guitar or a fiddle that rocks as it is played; ``waist`` is how far its two bouts lie apart."""
    x, y = turn(pen.x, pen.y, 0.6 + 0.45 * pen.sway)
    pen.fill(box(x, y + 0.85, 0.1, 0.4), (0.07, 0.6, 0.3))
    pen.fill(box(x, y + 1.15, 0.17, 0.14), (0.07, 0.6, 0.4))
    bouts = np.minimum(circle(x, y - 0.55, 0.56), circle(x, y - 0.55 + waist, 0.42))
    pen.fill(bouts, (0.07, 0.8, 0.75))
    pen.fill(circle(x, y - 0.25, 0.2), (0.05, 0.7, 0.2), line=False)
    pen.fill(box(x, y - 0.72, 0.24, 0.06), (0.06, 0.7, 0.25), line=False)
    for string in (-0.06, 0.06):
        pen.fill(box(x - string * (1 + 1.2 * pen.beat), y + 0.2, 0.02, 0.9), (0.13, 0.15, 1.0), line=False)


def cloud(pen: Pen) -> None:
    """A cloud out of which it pours, now more, now less."""
    x, y = pen.x, pen.y
    time = np.arange(FRAMES, dtype=np.float32)[:, None, None]
    for number, place in enumerate((-0.6, -0.3, 0.0, 0.3, 0.6)):
        fall = (0.37 * number + 0.29 * time) % 1.0
        drop = bar(x + 0.15 * fall - place, y - 0.2 - 0.7 * fall, (0.0, 0.0), (-0.05, 0.18), 0.02)
        pen.fill(drop + 0.05 - 0.11 * pen.beat, (0.58, 0.75, 0.95), line=False)
    puffs = np.minimum(circle(x + 0.5, y + 0.2, 0.36), circle(x - 0.5, y + 0.2, 0.38))
    pen.fill(np.minimum(puffs, ellipse(x, y + 0.4, 0.52, 0.46 + 0.08 * pen.beat)), (0.6, 0.12, 0.85))


def pan(pen: Pen) -> None:
    """A frying pan with an egg that shivers and spits."""
    x, y = pen.x, pen.y
    pen.fill(bar(x, y, (0.4, -0.4), (1.0, -0.95), 0.11), (0.06, 0.6, 0.4))
    pen.fill(ellipse(x + 0.1, y - 0.1, 0.85, 0.75), (0.62, 0.2, 0.3))
    pen.fill(ellipse(x + 0.1, y - 0.1, 0.68, 0.58), (0.62, 0.15, 0.18), line=False)
    u, v = x + 0.1 + 0.1 * pen.sway, y - 0.1
    white = np.minimum(ellipse(u, v, 0.36 + 0.14 * pen.beat, 0.34), circle(u - 0.22, v - 0.15, 0.25))
    pen.fill(white, (0.13, 0.04, 1.0), line=False)
    pen.fill(circle(u, v, 0.16 + 0.05 * pen.beat), (0.12, 0.85, 1.0), line=False)
    for spot in ((-0.55, -0.7), (0.1, -0.95), (-0.15, -0.55), (0.45, -0.65)):
        pen.fill(circle(x - spot[0], y - spot[1] + 0.15 * pen.beat, 0.11) + 0.13 * (1 - pen.beat), (0.13, 0.3, 1.0))


def dog(pen: Pen, ears: float) -> None:
    """The head of a dog or a wolf, which lifts its nose and opens its mouth; ``ears`` is how far they stand up."""
    x, y = turn(pen.x, pen.y, -0.15 + 0.3 * pen.beat)
    for side in (-1.0, 1.0):
        tip = (0.72, -ears)
        pen.fill(convex(side * x, y, ((0.12, -0.5), tip, (0.62, -0.15))), (0.08, 0.5, 0.4))
    pen.fill(circle(x, y + 0.05, 0.66), (0.08, 0.45, 0.62))
    pen.fill(ellipse(x, y - 0.5 - 0.14 * pen.beat, 0.3, 0.16 + 0.2 * pen.beat), (0.98, 0.7, 0.5))
    pen.fill(ellipse(x, y - 0.3, 0.38, 0.28), (0.09, 0.25, 0.85))
    pen.fill(ellipse(x, y - 0.16, 0.15, 0.1), (0.0, 0.0, 0.08), line=False)
    for side in (-1.0, 1.0):
        pen.fill(circle(side * x - 0.28, y + 0.18, 0.13), (0.13, 0.15, 1.0), line=False)
        pen.fill(circle(side * x - 0.27, y + 0.16, 0.075), (0.0, 0.0, 0.05), line=False)
