"""The report's curves and colours, drawn with matplotlib: the same log gives the same bytes."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray
from PIL import Image

from harkback.metrics import Array, half_width
from harkback.report import duration, size
from harkback.results import Results, Told

#: Okabe and Ito's colours, told apart by the colour-blind, less the yellow that white swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CEILING = "#555555"
STEPS = 20  #: colours of a heat map's cells, without the palest
WIDE, NARROW = 8.6, 4.3  #: inches: for a desk, for a telephone
LONGEST = {WIDE: 20, NARROW: 12}  #: letters of a learner's name beside its curve
CROWDED = 20  #: sessions beyond which a curve has no markers


@dataclass(frozen=True, slots=True)
class Drawn:
    """One figure at two widths, as data: URIs."""

    wide: str
    narrow: str
    alt: str


def accuracy(told: Told) -> Drawn:
    """Accuracy over all classes seen after each session, with its interval over runs."""

    def draw(width: float) -> Figure:
        figure, (axes,) = _canvas(width, 4.0, 1, told)
        ends, shade = [], _shade(told)
        for results, colour, marker in _styled(told):
            curves = 100 * results.curves()
            ends.append((results.learner, _line(axes, curves, colour, marker, shade), colour))
        axes.set_ylim(-2, 102)
        axes.set_ylabel("accuracy over all classes seen, %")
        _sessions(axes, told.facts["sessions"])
        _names(axes, ends, LONGEST[width])
        return figure

    return _drawn(draw, "Accuracy over all classes seen after each session; the numbers are in the tables.")


def costs(told: Told) -> Drawn:
    """Seconds of learning in each session, and bytes kept after it."""

    def draw(width: float) -> Figure:
        figure, panels = _canvas(width, 3.2, 2, told)
        facts: list[tuple[str, str, Callable[[float], str]]] = [
            ("seconds", "learning time of each session", duration),
            ("memory_bytes", "kept after each session", size),
        ]
        for axes, (fact, title, words) in zip(panels, facts, strict=True):
            ends, shade = [], _shade(told)
            for results, colour, marker in _styled(told):
                values = results.costs(fact)
                values = np.where(values > 0, values, np.nan)
                ends.append((results.learner, _line(axes, values, colour, marker, shade), colour))
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _, words=words: words(value)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_title(title, loc="left")
            _sessions(axes, told.facts["sessions"])
            _names(axes, ends, LONGEST[width])
        return figure

    return _drawn(draw, "Learning time of each session and bytes kept after it; the sums are in the table.")


def steps() -> list[tuple[str, str]]:
    """(background, text) colour of each step of a heat map's cells."""
    colours = mpl.colormaps["Blues"](np.linspace(0.02, 0.98, STEPS + 1))[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    dark = luminance > 0.22  # Dark text has 5.4 : 1 and more there, white text 3.9 : 1 and more below.
    return [(_hex(c), "#111" if d else "#fff") for c, d in zip(colours, dark, strict=True)]


def step(share: float) -> int | None:
    """0..1 -> which step; None: nothing was measured."""
    return None if np.isnan(share) else round(float(np.clip(share, 0, 1)) * STEPS)


def plain_map(shares: Array) -> str:
    """A heat map too large for numbers, as a data: URI; what was not measured is left clear."""
    palette = [(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)), 255) for colour, _ in steps()] + [(0, 0, 0, 0)]
    clear = len(palette) - 1
    numbers = [[clear if (number := step(share)) is None else number for share in line] for line in shares]
    image = Image.fromarray(np.array(palette, dtype=np.uint8)[np.array(numbers)])
    scale = max(1, 720 // max(shares.shape))
    return as_uri(image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST), "PNG")


def ramp(name: str) -> NDArray[np.float64]:
    """(256, 3) colours of one of matplotlib's maps, 0..1."""
    return np.asarray(mpl.colormaps[name](np.linspace(0, 1, 256)))[:, :3]


def gradient(colours: Array) -> str:
    """(n, 3) colours, 0..1, as a CSS gradient."""
    return f"linear-gradient(to right, {', '.join(_hex(colour) for colour in colours)})"


def as_uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _hex(colour: NDArray[np.float64]) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour)


def _styled(told: Told) -> Iterator[tuple[Results, str, str]]:
    """Learners with results; methods in colours with markers, ceilings in grey without."""
    methods = [r.learner for r in told.learners if not r.cumulative]
    for results in told.learners:
        if results.runs and results.cumulative:
            yield results, CEILING, ""
        elif results.runs:
            number = methods.index(results.learner)
            yield results, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]


def _shade(told: Told) -> float:
    """How dense an interval's shade is: many upon each other must not hide the lines."""
    return min(0.15, 0.8 / max(len(told.learners), 1))


@contextmanager
def _style() -> Iterator[None]:
    """matplotlib's own defaults, not the user's; text as it stands ("$" is no formula), left to the browser's fonts."""
    ours = {
        "svg.hashsalt": "harkback",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.size": 9.5,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#666666",
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": "#e4e4e4",
        "axes.axisbelow": True,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    }
    # A glyph that is missing here is not missing in the browser, which draws the text.
    with warnings.catch_warnings(), style.context(["default", ours]):
        warnings.simplefilter("ignore")
        yield


def _drawn(draw: Callable[[float], Figure], alt: str) -> Drawn:
    found = []
    for width in (WIDE, NARROW):
        with _style():
            buffer = io.StringIO()
            draw(width).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        found.append("data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue().encode()).decode())
    return Drawn(found[0], found[1], alt)


def _canvas(width: float, height: float, panels: int, told: Told) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side where it is wide, and with room for names on their right."""
    across = panels if width > NARROW else 1
    down = panels // across
    figure = Figure(figsize=(width, height * down))
    longest = max((len(_short(r.learner, LONGEST[width])) for r in told.learners), default=0)
    left, right = 0.75, 0.25 + 0.078 * longest
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


def _line(axes: Axes, values: Array, colour: str, marker: str, shade: float) -> float:
    """Mean over runs and its interval; returns where the line ends. values: (runs, sessions)"""
    x, middle = np.arange(1, values.shape[1] + 1), values.mean(0)
    dash, marker = "-" if marker else "--", marker if len(x) <= CROWDED else ""
    half = np.array([half_width(column) for column in values.T])
    if np.isfinite(half).any():
        axes.fill_between(x, middle - half, middle + half, color=colour, alpha=shade, linewidth=0)
    axes.plot(x, middle, color=colour, marker=marker or None, markersize=4.5, linestyle=dash)
    return float(middle[-1])


def _sessions(axes: Axes, sizes: Sequence[int]) -> None:
    """Ticks that say the session and how many classes were seen by then."""
    seen = np.cumsum(sizes)
    shown = sorted({round(t) for t in np.linspace(0, len(sizes) - 1, min(len(sizes), 8))})
    margin = max(0.1, len(sizes) / 50)
    axes.set_xlim(1 - margin, len(sizes) + margin)
    axes.set_xticks([t + 1 for t in shown], [f"{t + 1}\n{seen[t]}" for t in shown])
    axes.set_xlabel("session, and classes seen by then")


def _names(axes: Axes, ends: Sequence[tuple[str, float, str]], letters: int) -> None:
    """Each learner's name where its curve ends, pushed apart where they would lie upon each other."""
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
            _short(ends[i][0], letters),
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


def _short(name: str, letters: int) -> str:
    clean = "".join(c if c.isprintable() else " " for c in name)  # What XML forbids is not printable.
    return clean if len(clean) <= letters else clean[: letters - 1] + "…"
