"""The picture of scaling: CPU seconds of a session, a panel for each thing that changes, a line for each learner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from harkback.figures import COLOURS, MARKERS

AXES = {
    "clips": "clips of a session",
    "patches": "patches of a frame",
    "known": "classes known before",
    "sessions": "which session",
}
LOOK = {
    "svg.hashsalt": "harkback",
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "axes.axisbelow": True,
}
GUIDE = "#8a8a86"


def scaling(found: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """found: what `benchmarks.scaling` measured; writes an SVG."""
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(9.6, 6.6), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True).flat
        for axes, (name, lines) in zip(panels, found.items(), strict=True):
            _panel(axes, lines)
            axes.set_xlabel(AXES[name])
        for axes in figure.axes[::2]:
            axes.set_ylabel("CPU seconds of a session")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=len(names), frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _panel(axes: Axes, lines: Mapping[str, Mapping[str, float]]) -> None:
    size = {int(x): y for x, y in lines["tokens, MB"].items()}
    learners = {name: {int(x): y for x, y in of.items() if x.isdecimal()} for name, of in lines.items()}
    del learners["tokens, MB"]
    for (name, of), colour, marker in zip(learners.items(), COLOURS, MARKERS, strict=False):
        axes.plot(list(of), list(of.values()), color=colour, marker=marker, markersize=5, label=name)
    if len(set(size.values())) > 1:
        last = max(size)
        top = max(of[last] for of in learners.values())
        along = [top * size[x] / size[last] for x in size]
        axes.plot(list(size), along, color=GUIDE, linewidth=1, linestyle=":", label="as the bytes of the tokens")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(size), [str(x) for x in size])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
