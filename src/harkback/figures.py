"""The report's colours and the frame of its figures, drawn with matplotlib: the same log gives the same bytes."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from harkback.metrics import Array

#: Okabe and Ito's colours, told apart by the colour-blind, less the yellow that white swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
CEILING = "#555555"
PALE = "#b4b4b0"  #: what is there to be compared with
STEPS = 20  #: colours of a heat map's cells, without the palest
WIDE, NARROW = 8.6, 4.3  #: inches: for a desk, for a telephone
LONGEST = {WIDE: 20, NARROW: 12}  #: letters of a learner's name beside its curve


@dataclass(frozen=True, slots=True)
class Drawn:
    """One figure at two widths, as data: URIs."""

    wide: str
    narrow: str
    alt: str


def drawn(draw: Callable[[float], Figure], alt: str) -> Drawn:
    """draw: a figure of so many inches across."""
    found = []
    for width in (WIDE, NARROW):
        with _style():
            buffer = io.StringIO()
            draw(width).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        found.append("data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue().encode()).decode())
    return Drawn(found[0], found[1], alt)


def short(name: str, letters: int) -> str:
    """A name that fits, of letters that a picture may hold."""
    clean = "".join(c if c.isprintable() else " " for c in name)  # What XML forbids is not printable.
    return clean if len(clean) <= letters else clean[: letters - 1] + "…"


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
