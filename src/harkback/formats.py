"""Numbers as people read them: percent, points, p-values, durations, sizes; a dash where nothing was measured."""

from __future__ import annotations

import math

DASH = "–"


def percent(share: float | None, half: float | None = None) -> str:
    """0.5 -> "50.0"; with half an interval "50.0 ± 1.2"."""
    if share is None or math.isnan(share):
        return DASH
    text = f"{100 * share:.1f}".replace("-", "−")
    text = "0.0" if text == "−0.0" else text
    return text if half is None or math.isnan(half) else f"{text} ± {100 * half:.1f}"


def signed(share: float | None) -> str:
    """A difference: 0.012 -> "+1.2", -0.012 -> "−1.2", nothing to be seen -> "0.0"."""
    text = percent(share)
    return text if text in (DASH, "0.0") or text.startswith("−") else f"+{text}"


def points(share: float) -> str:
    return f"{percent(share)} {'point' if percent(share) == '1.0' else 'points'}"


def chance(p: float) -> str:
    """0.2134 -> "p = 0.21", 0.00001 -> "p < 0.001"; so many digits that it is on the right side of 0.05."""
    if p < 0.001:
        return "p < 0.001"
    for digits in (2, 3, 4):
        text = f"{p:.{digits}f}"
        if float(text) > 0 and (float(text) < 0.05) == (p < 0.05):
            return f"p = {text}"
    return f"p = {p:.6f}"


def duration(seconds: float) -> str:
    """0.34 -> "0.34 s", 83 -> "1 min 23 s", 8000 -> "2 h 13 min"."""
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds >= 0.001 else f"{1e6 * seconds:.0f} µs"
    whole_seconds = round(seconds)
    if whole_seconds < 60:
        return f"{whole_seconds} s"
    minutes = round(seconds / 60)
    return (
        f"{whole_seconds // 60} min {whole_seconds % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    )


def size(number: float) -> str:
    """1_500_000 -> "1.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} B" if unit == "B" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def amount(number: float) -> str:
    """1_234_567 -> "1.23 M"."""
    for unit in ("", " k", " M"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} G"


def count(number: int, one: str, many: str = "") -> str:
    """2, "clip" -> "2 clips"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: list[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
