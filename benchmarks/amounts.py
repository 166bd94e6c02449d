"""Figures of the plan as people read them: two digits, for most are estimates."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.plan import Span
from benchmarks.report import number
from harkback.formats import duration


def span(of: Span, told: Callable[[float], str]) -> str:
    low, high = told(of.low), told(of.high)
    return low if low == high else f"{low} to {high}"


def rounded(value: float) -> str:
    return number(float(f"{value:.2g}"))


def seconds(value: float) -> str:
    return f"{1000 * value:.2g} ms" if value < 0.1 else duration(value)


def hours(value: float) -> str:
    return f"{rounded(value)} h" if value >= 1 else f"{rounded(60 * value)} min"


def dollars(value: float) -> str:
    return f"${value:,.0f}" if value >= 10 else f"${value:.2g}"


def share(of: float) -> str:
    """Of one; what takes a thousand times as long is never done."""
    if of >= 10:
        return f"{rounded(of)} times" if of < 1000 else "never done"
    return f"{100 * of:,.0f} %" if of >= 0.1 else f"{100 * of:.2g} %"
