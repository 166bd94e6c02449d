"""The portrait's figures and its page (extra "report")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from harkback import figures, formats
from harkback.curves import CROWDED
from harkback.figures import CEILING, COLOURS, NARROW, PALE, Drawn, drawn
from harkback.grids import LEGIBLE, Cell, Grid
from harkback.portrait import NAMED, Lesson, Share, Sitter, promise, settings, verdict
from harkback.templating import template

BARS = 25  #: of the histogram of evidence
HEIGHT = 2.9  #: inches of a panel
ROOM = 0.2  #: share of the histogram's width that a word needs


def render(of: Sitter, *, alone: bool = True) -> str:
    """The page; alone: with the frame of one, or else its sections for another page, which has our style sheets."""
    return template("portrait.html" if alone else "portrait_body.html").render(
        of=of,
        facts=of.facts,
        verdict=verdict(of),
        promise=promise(of),
        accuracy=accuracy(of),
        confusion=confusion(of),
        reliability=reliability(of),
        unknown=unknown(of),
        settings=settings(of),
        named=NAMED,
        steps=figures.steps(),
        shades=f"linear-gradient(to right, {', '.join(colour for colour, _ in figures.steps())})",
        percent=formats.percent,
        count=formats.count,
        dash=formats.DASH,
        duration=formats.duration,
    )


def accuracy(of: Sitter) -> Drawn | None:
    """Accuracy after each session, and what became of old classes in it; None: nothing was asked."""
    asked = [lesson for lesson in of.lessons if lesson.right.asked]
    if not asked:
        return None

    def draw(width: float) -> Figure:
        figure, (axes,) = _panels(width, 1)
        x = [lesson.number for lesson in asked]
        low, value, high = _bounds([lesson.right for lesson in asked])
        if len(x) > 1:
            axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.13, linewidth=0)
        else:
            axes.vlines(x, low, high, color=COLOURS[0], linewidth=1.4)
        marker = "o" if len(x) <= CROWDED else None
        axes.plot(x, value, color=COLOURS[0], marker=marker, label="all classes")
        old = [lesson for lesson in asked if lesson.before.asked]
        if old:
            at = [lesson.number - 0.12 for lesson in old]
            _, before, _ = _bounds([lesson.before for lesson in old])
            _, after, _ = _bounds([lesson.after for lesson in old])
            axes.vlines(at, before, after, color=COLOURS[1], linewidth=1.4)
            axes.plot(at, before, "o", color=COLOURS[1], mfc="#ffffff", label="former classes, before")
            axes.plot(at, after, "o", color=COLOURS[1], label="after")
        for lesson in of.lessons:
            if lesson.forgot:
                axes.axvline(lesson.number, color=CEILING, linewidth=0.9, linestyle=":")
                axes.annotate("forgot", (lesson.number, 0), xytext=(3, 3), textcoords="offset points", color=CEILING)
        _percent(axes, "right, %")
        _sessions(axes, of.lessons)
        _legend(axes)
        return figure

    return drawn(draw, "Accuracy after each session; the numbers are in the table of sessions.")


def reliability(of: Sitter) -> Drawn | None:
    """How often answers of a confidence were right, and how many there were; None: nothing was asked."""
    if not of.exam.asked:
        return None
    found = [each for each in of.exam.bins if each.clips]
    middles = [50 * (each.low + each.high) for each in found]
    low, value, high = _bounds([Share.counted(round(each.right * each.clips), each.clips) for each in found])
    sure = [100 * each.confidence for each in found]

    def draw(width: float) -> Figure:
        figure, (truth, said) = _panels(width, 2)
        truth.bar(middles, value, width=9, color=COLOURS[5], alpha=0.55)
        truth.plot([0, 100], [0, 100], color=CEILING, linewidth=0.9, linestyle="--")
        truth.vlines(sure, low, high, color=COLOURS[0], linewidth=1.2)
        truth.plot(sure, value, "o", color=COLOURS[0])
        truth.set_title("answers that were right", loc="left")
        _percent(truth, "right, %")
        said.bar(middles, [each.clips for each in found], width=9, color=COLOURS[0])
        said.set_title("how often it was how sure", loc="left")
        said.set_ylabel("clips")
        said.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        for axes in (truth, said):
            axes.set_xlim(0, 100)
            axes.set_xlabel("confidence, %")
        return figure

    return drawn(draw, f"Share of right answers by confidence; expected calibration error {of.exam.ece:.3f}.")


def unknown(of: Sitter) -> Drawn | None:
    """The evidence of known clips with the threshold, and what became of strangers; None: nothing was asked."""
    evidence = np.array(of.calibration.evidence)
    if not len(evidence) or len(of.classes) < 2:
        return None
    met = [lesson for lesson in of.lessons if lesson.strangers.asked]

    def draw(width: float) -> Figure:
        figure, panels = _panels(width, 1 + bool(met))
        axes = panels[0]
        edges = np.linspace(0, 1, BARS + 1)
        below = evidence < (0 if of.threshold is None else of.threshold)
        few, rest = np.histogram(evidence[below], edges)[0], np.histogram(evidence[~below], edges)[0]
        middles, bar = (edges[1:] + edges[:-1]) / 2, 0.9 / BARS
        axes.bar(middles, rest, bottom=few, width=bar, color=COLOURS[0])
        axes.bar(middles, few, width=bar, color=COLOURS[1])
        if of.threshold is not None:
            _border(axes, of.threshold)
        axes.set_title("clips of known classes", loc="left")
        axes.set_xlabel("evidence")
        axes.set_ylabel("clips")
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if met:
            _strangers(panels[1], of, met)
        return figure

    return drawn(draw, "Evidence of clips of known classes, and how many strangers were noticed in each session.")


def _border(axes: Axes, at: float) -> None:
    """A line where the unknown ends, with the names of both sides where there is room."""
    axes.axvline(at, color="#222222", linewidth=0.9)
    sides = (("unknown", COLOURS[1], "right", -4, at), ("known", COLOURS[0], "left", 4, 1 - at))
    for name, colour, end, away, room in sides:
        if room > ROOM:
            axes.annotate(
                name,
                (at, 1),
                (away, -10),
                ("data", "axes fraction"),
                "offset points",
                ha=end,
                color=colour,
                fontweight="bold",
            )


def _strangers(axes: Axes, of: Sitter, met: list[Lesson]) -> None:
    x = [lesson.number for lesson in met]
    low, value, high = _bounds([lesson.strangers for lesson in met])
    axes.vlines(x, low, high, color=COLOURS[1], linewidth=1.4)
    axes.plot(x, value, color=COLOURS[1], marker="o", linewidth=1, label="called unknown")
    ranked = [100 * lesson.auroc for lesson in met]
    axes.plot(x, ranked, color=COLOURS[2], marker="D", linewidth=1, label="AUROC")
    axes.axhline(100 * of.promised, color=PALE, linewidth=1, linestyle="--")
    axes.set_title("clips of classes not met yet", loc="left")
    _percent(axes, "%")
    _sessions(axes, of.lessons)
    _legend(axes)


def _panels(width: float, number: int) -> tuple[Figure, list[Axes]]:
    """Side by side where it is wide, one above the other where it is narrow."""
    across = number if width > NARROW else 1
    down = number // across
    figure = Figure(figsize=(width, HEIGHT * down), layout=ConstrainedLayoutEngine(h_pad=0.1))
    return figure, list(figure.subplots(down, across, squeeze=False).flat)


def _bounds(shares: Sequence[Share]) -> tuple[list[float], list[float], list[float]]:
    """Lower bounds, values and upper bounds, in percent."""
    values = [100 * share.value for share in shares]
    return [100 * share.low for share in shares], values, [100 * share.high for share in shares]


def _percent(axes: Axes, label: str) -> None:
    axes.set_ylim(-2, 102)
    axes.set_ylabel(label)


def _sessions(axes: Axes, lessons: tuple[Lesson, ...]) -> None:
    axes.set_xlim(0.5, len(lessons) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel("session")


def _legend(axes: Axes) -> None:
    axes.legend(loc="best", frameon=False, fontsize=8.5, handlelength=1.4)


def confusion(of: Sitter) -> Grid | None:
    """Counts; colours by share of the row; None: nothing was asked."""
    if not of.exam.asked:
        return None
    counts = of.confusion.numpy()
    names = tuple(known.name for known in of.classes)
    asked = counts.sum(1, keepdims=True)
    shares = np.where(asked > 0, counts / np.maximum(asked, 1), np.nan)
    caption = "rows: the true class; columns: what was said; classes in the order in which they came"
    often = tuple(_mistakes(counts, names))
    if len(names) > LEGIBLE:
        return Grid(names, names, [], figures.plain_map(shares), caption, often)
    cells = [
        [Cell(str(number) if number else "", figures.step(share)) for number, share in zip(line, of_line, strict=True)]
        for line, of_line in zip(counts, shares, strict=True)
    ]
    return Grid(names, names, cells, "", caption, often)


def _mistakes(counts: NDArray[np.int64], names: tuple[str, ...]) -> Iterator[str]:
    """The five most frequent."""
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    for i in np.argsort(-wrong, axis=None, kind="stable")[:5]:
        truth, said = divmod(int(i), len(names))
        if wrong[truth, said]:
            yield f"{names[truth]} → {names[said]} ({wrong[truth, said]} of {counts[truth].sum()})"
