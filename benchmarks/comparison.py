"""What must be reached, and what must not get worse: ratios within one run, as seconds are a machine's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Literal

#: A ratio may be so many times worse than the recorded one: on shared machines two runs differ by up to a third.
TOLERANCE = 1.5
#: Names of the figures that are ratios: the more the better, or the less.
MORE = ("cheaper_than_*", "*_over_copy", "*_over_copy_cpu")
LESS = ("times_*", "*_times_roofline")

#: Learners of the kind of `ncm` and `ridge`.
CLOSED_FORM = ("ncm", "ridge", "balanced-ridge", "slda", "fecam", "ranpac", "klda", "mmal")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    what: str
    path: Path  #: where the figure stands in the results
    bound: Literal["at least", "at most"]
    value: float
    unit: str = ""

    def reached(self, measured: float) -> bool:
        return measured >= self.value if self.bound == "at least" else measured <= self.value


def _step(shape: str) -> tuple[Target, ...]:
    what, at = f"a step of `l3`, {shape.replace('x', ' x ')}", ("step", shape)
    return (
        Target(f"{what}: cheaper than AV-CIL's plain one", (*at, "cheaper_than_plain_avcil"), "at least", 50, "times"),
        Target(f"{what}: over its roofline", (*at, "times_roofline"), "at most", 4, "times"),
        Target(f"{what}: resident memory", (*at, "l3_resident_mb"), "at most", 2000, "MB"),
    )


def _protocol(learner: str, seconds: float) -> Target:
    what = f"the protocol of AVE-CI's size, `{learner}`: wall clock"
    return Target(what, ("protocol_ave_shape_seconds", learner), "at most", seconds, "s")


def _store(patches: int) -> Target:
    what = f"the store, rows at random of 8 x {patches} patches: over copying memory"
    return Target(what, ("store", f"{patches}_patches_read_over_copy"), "at least", 0.8, "times")


TARGETS = (
    *_step("8x16x768"),
    *_step("8x196x768"),
    Target("`hark`, clips that are learnt: over their roofline", ("hark", "times_roofline"), "at most", 4, "times"),
    Target("a step of our AV-CIL: cheaper than the plain one", ("avcil", "cheaper_than_plain"), "at least", 4, "times"),
    *map(_store, (16, 196)),
    Target("the store: opening it at 100,000 clips", ("store", "open_100000_s"), "at most", 0.05, "s"),
    Target(
        "the store: memory more after reading 0.4 GB of it", ("store", "resident_growth_4x_mb"), "at most", 10, "MB"
    ),
    _protocol("hark", 120),
    *(_protocol(learner, 20) for learner in CLOSED_FORM),
)


def figures(found: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, float]]:
    """Every number and where it stands."""
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from figures(value, (*above, name))
        elif isinstance(value, int | float):
            yield (*above, name), float(value)


def better(name: str) -> Literal["more", "less", "neither"]:
    """Which way a figure of this name is better; neither: it is no ratio."""
    if any(fnmatch(name, pattern) for pattern in MORE):
        return "more"
    return "less" if any(fnmatch(name, pattern) for pattern in LESS) else "neither"


def worse(recorded: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    """A line for each recorded ratio that is now worse than is tolerated, or is not measured any more.

    Both: results by part. Parts that were not measured at all are not looked at.
    """
    now, lines = dict(figures(measured)), []
    for path, before in figures({part: found for part, found in recorded.items() if part in measured}):
        way, name = better(path[-1]), " / ".join(path)
        if way == "neither":
            continue
        if path not in now:
            lines.append(f"{name}: was {before:.3g}, is not measured any more")
            continue
        # So written that what is no number counts as worse.
        held = now[path] <= TOLERANCE * before if way == "less" else now[path] * TOLERANCE >= before
        if not held:
            lines.append(f"{name}: was {before:.3g}, is {now[path]:.3g}; the {way} the better")
    return lines
