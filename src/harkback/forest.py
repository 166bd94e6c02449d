"""The forest plot: each learner's difference from the reference, with its interval."""

from __future__ import annotations

from matplotlib.figure import Figure

from harkback.compare import Compared, Comparison, Difference
from harkback.figures import CEILING, COLOURS, LONGEST, NARROW, Drawn, drawn, short
from harkback.results import Told

ROW = 0.27  #: inches for a learner


def forest(told: Told, compared: Compared) -> Drawn | None:
    """Differences of final and of mean accuracy, the highest first; full: real, hollow: may be chance."""
    found = [(r.learner, r.cumulative, c) for r in told.learners if (c := compared.by_learner[r.learner]) is not None]
    if not found or compared.reference is None:
        return None
    found.sort(key=lambda line: line[2].final.value)
    reference = compared.reference.learner

    def draw(width: float) -> Figure:
        across = 2 if width > NARROW else 1
        down = 2 // across
        height = ROW * len(found) + 0.95
        figure = Figure(figsize=(width, height * down), layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False).flat
        for axes, (title, which) in zip(panels, (("final accuracy", _final), ("mean accuracy", _mean)), strict=True):
            for y, (_, ceiling, comparison) in enumerate(found):
                of, colour = which(comparison), CEILING if ceiling else COLOURS[0]
                axes.plot([100 * of.low, 100 * of.high], [y, y], color=colour, linewidth=1.4)
                face = colour if of.real else "#ffffff"
                shape = "D" if ceiling else "o"
                axes.plot([100 * of.value], [y], marker=shape, markersize=6, color=colour, markerfacecolor=face)
            axes.axvline(0, color="#222222", linewidth=0.9)
            axes.grid(visible=True, axis="x")
            axes.grid(visible=False, axis="y")
            axes.set_yticks(range(len(found)), [short(name, LONGEST[width]) for name, _, _ in found])
            axes.set_ylim(-0.6, len(found) - 0.4)
            axes.set_title(title, loc="left")
            axes.set_xlabel(f"points above or below {short(reference, LONGEST[width])}")
        return figure

    return drawn(draw, f"Differences from {reference} with their 95 % intervals; the numbers are in the text below.")


def _final(comparison: Comparison) -> Difference:
    return comparison.final


def _mean(comparison: Comparison) -> Difference:
    return comparison.mean
