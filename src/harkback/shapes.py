"""What facts in JSON must look like, so that whoever reads them can rely on it: what is damaged is named at once.

A shape is a type, or None; a function that says whether a value will do; a tuple of shapes, of which one must fit; a
list with the shape of each item; or a dict with the shape of what stands under each name. A name that ends in "?" may
be missing, and others than are named may be there; under ``...`` stands the shape of all values.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from harkback.errors import HarkbackError

MOST = 2**53  #: beyond it a number is no longer exact everywhere


def natural(value: Any) -> bool:
    """0, 1, 2, ..."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST and math.isfinite(value)


def part(value: Any) -> bool:
    """The name of a file in a folder that is known, which leads nowhere else."""
    return isinstance(value, str) and value not in ("", ".", "..") and not set("/\\\0") & set(value)


def check(facts: Any, shape: Any, where: Path, mend: str) -> None:
    """Raise `HarkbackError` unless the facts have the shape. where: the file they stand in."""
    misfit = _misfit(facts, shape, "")
    if misfit is not None:
        what = f"makes no sense{f' at {misfit}' if misfit else ''}"
        raise HarkbackError(what, where=where, mend=mend)


def _misfit(value: Any, shape: Any, at: str) -> str | None:
    """Where the value is not as it should be; None: nowhere."""
    if isinstance(shape, tuple):
        found = [_misfit(value, each, at) for each in shape]
        return None if None in found else found[0]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return at
        return _first(_misfit(item, shape[0], f"{at}[{i}]") for i, item in enumerate(value))
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return at
        if ... in shape:
            return _first(_misfit(item, shape[...], f"{at}.{name}") for name, item in value.items())
        return _first(_entry(value, name, each, at) for name, each in shape.items())
    fits = value is None if shape is None else isinstance(value, shape) if isinstance(shape, type) else shape(value)
    return None if fits else at


def _entry(value: dict[str, Any], name: str, shape: Any, at: str) -> str | None:
    plain, here = name.removesuffix("?"), f"{at}.{name}".removesuffix("?").lstrip(".")
    if plain not in value:
        return None if name.endswith("?") else here
    return _misfit(value[plain], shape, here)


def _first(found: Any) -> str | None:
    return next((each for each in found if each is not None), None)
