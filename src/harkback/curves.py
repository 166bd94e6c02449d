"""The report's curves: accuracy as classes come, what learning cost, training losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from harkback.figures import CEILING, COLOURS, LONGEST, MARKERS, NARROW, PALE, Drawn, drawn, short
from harkback.formats import duration, size
from harkback.metrics import Array, half_width
from harkback.results import Results, Told

CLEAR = 9  #: learners beyond which not every curve has a colour and a name
BEST = 5  #: of the most accurate learners that have, even then
EPOCHS = 40  #: that a curve of losses shows, evenly spread
CROWDED = 20  #: sessions beyond which a curve has no markers


@dataclass(frozen=True, slots=True)
class Styled:
    """A learner's look in all curves."""

    results: Results
    colour: str
    marker: str  #: "": a ceiling, dashed
    bright: bool  #: has a colour and a name; the others lie pale behind


def styled(told: Told, reference: Results | None) -> list[Styled]:
    """Methods in colours with markers, ceilings in grey without; of many learners only the reference and the best few.

    The pale ones first, so that they lie behind. `bright` learners keep the order of the bench.
    """
    shown = [results for results in told.learners if results.runs]
    methods = [results for results in shown if not results.cumulative]
    if len(shown) > CLEAR:
        best = told.incremental[:BEST]
        methods = [r for r in methods if r is reference or any(r is one for one in best)]
    number = {results.learner: n for n, results in enumerate(methods)}
    pale = [Styled(r, PALE, "", False) for r in shown if not r.cumulative and r.learner not in number]
    return pale + [
        Styled(r, CEILING, "", True)
        if r.cumulative
        else Styled(r, COLOURS[(n := number[r.learner]) % len(COLOURS)], MARKERS[n % len(MARKERS)], True)
        for r in shown
        if r.cumulative or r.learner in number
    ]


def accuracy(told: Told, looks: Sequence[Styled]) -> Drawn:
    """Accuracy over all classes seen after each session, with its interval over runs."""

    def draw(width: float) -> Figure:
        figure, (axes,) = _canvas(width, 4.0, 1, looks)
        ends = [(look, _line(axes, 100 * look.results.curves(), look, _shade(looks))) for look in looks]
        axes.set_ylim(-2, 102)
        axes.set_ylabel("accuracy over all classes seen, %")
        _sessions(axes, told.facts["sessions"])
        _names(axes, ends, LONGEST[width])
        return figure

    return drawn(draw, "Accuracy over all classes seen after each session; the numbers are in the tables.")


def alone(told: Told, looks: Sequence[Styled]) -> Drawn:
    """The same, a small panel for each learner, the most accurate first; all others pale behind it."""
    ranked = sorted(looks, key=lambda look: -float(look.results.curves().mean()))
    # One line with gaps instead of many: a page has hundreds of them.
    gapped = [np.append(100 * look.results.curves().mean(0), np.nan) for look in looks]
    behind = np.tile(np.arange(len(gapped[0])), len(gapped)), np.concatenate(gapped)

    def draw(width: float) -> Figure:
        figure, panels = _panels(width, len(ranked))
        for look, axes in zip(ranked, panels, strict=True):
            axes.plot(*behind, color=PALE, linewidth=0.5)
            colour = look.colour if look.bright else COLOURS[0]
            axes.plot(100 * look.results.curves().mean(0), color=colour, linewidth=1.8)
            axes.set_title(short(look.results.learner, 18), loc="left", fontsize=8.5)
            axes.set_ylim(-2, 102)
            axes.set_xticks([0, len(told.facts["sessions"]) - 1], ["1", str(len(told.facts["sessions"]))])
            axes.tick_params(labelsize=7.5)
        return figure

    return drawn(draw, "Accuracy over all classes seen after each session, a panel for each learner.")


def costs(told: Told, looks: Sequence[Styled]) -> Drawn:
    """Seconds of learning in each session, and bytes kept after it."""

    def draw(width: float) -> Figure:
        figure, panels = _canvas(width, 3.2, 2, looks)
        facts: list[tuple[str, str, Callable[[float], str]]] = [
            ("seconds", "learning time of each session", duration),
            ("memory_bytes", "kept after each session", size),
        ]
        for axes, (fact, title, words) in zip(panels, facts, strict=True):
            ends = []
            for look in looks:
                values = look.results.costs(fact)
                ends.append((look, _line(axes, np.where(values > 0, values, np.nan), look, _shade(looks))))
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _, words=words: words(value)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_title(title, loc="left")
            _sessions(axes, told.facts["sessions"])
            _names(axes, ends, LONGEST[width])
        return figure

    return drawn(draw, "Learning time of each session and bytes kept after it; the sums are in the table.")


def losses(told: Told) -> Drawn | None:
    """Mean training loss of each epoch, a line for each session, of each learner's first run; None: none was kept."""
    kept = [(results.learner, found) for results in told.learners if (found := results.losses())]
    if not kept:
        return None

    def draw(width: float) -> Figure:
        figure, panels = _panels(width, len(kept))
        for (name, sessions), axes in zip(kept, panels, strict=True):
            colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(sessions)))
            for of, colour in zip(sessions, colours, strict=True):
                shown = np.unique(np.linspace(0, len(of) - 1, min(len(of), EPOCHS)).round().astype(int))
                finite = np.where(np.isfinite(of), of, np.nan)
                axes.plot(shown + 1, finite[shown], color=colour, linewidth=1, marker="." * (len(of) == 1))
            axes.set_title(short(name, 18), loc="left", fontsize=8.5)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(labelsize=7.5)
        return figure

    return drawn(draw, "Mean training loss of each epoch, a line for each session, a panel for each learner.")


def _shade(looks: Sequence[Styled]) -> float:
    """How dense an interval's shade is: many upon each other must not hide the lines."""
    return min(0.15, 0.8 / max(sum(look.bright for look in looks), 1))


def _panels(width: float, number: int) -> tuple[Figure, list[Axes]]:
    """Small panels, as many side by side as there is room for."""
    across = 4 if width > NARROW else 2
    down = -(-number // across)
    each, height, left, top, bottom, gap = width / across, 1.5, 0.42, 0.3, 0.3, 0.1  # inches
    figure = Figure(figsize=(width, height * down))
    panels = []
    for k in range(number):
        x, y = k % across * each + left, (down - 1 - k // across) * height + bottom
        box = (x / width, y / (height * down), (each - left - gap) / width, (height - top - bottom) / (height * down))
        panels.append(figure.add_axes(box))
    return figure, panels


def _canvas(width: float, height: float, panels: int, looks: Sequence[Styled]) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side where it is wide, and with room for names on their right."""
    across = panels if width > NARROW else 1
    down = panels // across
    figure = Figure(figsize=(width, height * down))
    longest = max((len(short(look.results.learner, LONGEST[width])) for look in looks if look.bright), default=0)
    left, right = 0.95, 0.25 + 0.078 * longest
    top, bottom = 0.35, 0.65
    each = width / across
    axes = [
        figure.add_axes(
            (
                (k % across * each + left) / width,
                ((down - 1 - k // across) * height + bottom) / (height * down),
                (each - left - right) / width,
                (height - top - bottom) / (height * down),
            )
        )
        for k in range(panels)
    ]
    return figure, axes


def _line(axes: Axes, values: Array, look: Styled, shade: float) -> float:
    """Mean over runs and its interval; returns where the line ends. values: (runs, sessions)"""
    x, middle = np.arange(1, values.shape[1] + 1), values.mean(0)
    if not look.bright:
        axes.plot(x, middle, color=look.colour, linewidth=0.8)
        return float(middle[-1])
    half = np.array([half_width(column, look.results.orders) for column in values.T])
    if np.isfinite(half).any():
        axes.fill_between(x, middle - half, middle + half, color=look.colour, alpha=shade, linewidth=0)
    dash, marker = "-" if look.marker else "--", look.marker if len(x) <= CROWDED else ""
    axes.plot(x, middle, color=look.colour, marker=marker or None, markersize=4.5, linestyle=dash)
    return float(middle[-1])


def _sessions(axes: Axes, sizes: Sequence[int]) -> None:
    """Ticks that say the session and how many classes were seen by then."""
    seen = np.cumsum(sizes)
    shown = range(len(sizes) - 1, -1, -((len(sizes) + 7) // 8))  # Counted from the last, which is always there.
    margin = max(0.1, len(sizes) / 50)
    axes.set_xlim(1 - margin, len(sizes) + margin)
    axes.set_xticks([t + 1 for t in shown], [f"{t + 1}\n{seen[t]}" for t in shown])
    axes.set_xlabel("session, and classes seen by then")


def _names(axes: Axes, every: Sequence[tuple[Styled, float]], letters: int) -> None:
    """Each bright learner's name where its curve ends, pushed apart where they would lie upon each other."""
    ends = [(look.results.learner, end, look.colour) for look, end in every if look.bright]
    low, high = axes.get_ylim()
    height = float(axes.bbox.height) * 72 / axes.figure.dpi  # points
    gap = min(12.5, height / max(len(ends), 1))
    scaled = axes.transScale.transform([(1.0, low), (1.0, high), *((1.0, end) for _, end, _ in ends)])[:, 1]
    wanted = (scaled[2:] - scaled[0]) / (scaled[1] - scaled[0]) * height
    order = [i for i in np.argsort(wanted, kind="stable") if np.isfinite(wanted[i])]
    placed: list[float] = []
    for i in order:
        placed.append(max(float(wanted[i]), placed[-1] + gap) if placed else max(float(wanted[i]), 0.0))
    limit = height
    for k in reversed(range(len(placed))):
        placed[k] = min(placed[k], limit)
        limit = placed[k] - gap
    for i, y in zip(order, placed, strict=True):
        axes.annotate(
            short(ends[i][0], letters),
            (1.0, wanted[i] / height),
            xycoords="axes fraction",
            xytext=(14, y - wanted[i]),
            textcoords="offset points",
            color=ends[i][2],
            fontweight="bold",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": ends[i][2],
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 0,
            },
            annotation_clip=False,
        )
