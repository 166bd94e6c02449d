"""Settings that mean something: told before anything is learnt or encoded by others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

from harkback.errors import HarkbackError

Limits = tuple[float, float | None]  #: least and greatest, both allowed; None: there is no greatest


def check_limits(where: str, settings: object, **limits: Limits) -> None:
    """`HarkbackError` for a named setting that is beyond its limits, or no finite number; one that is None is not set.

    where: whose settings they are, for the message.
    """
    for name, (least, greatest) in limits.items():
        value = getattr(settings, name)
        if value is not None and not (isfinite(value) and least <= value and (greatest is None or value <= greatest)):
            mend = f"give {least:g} or more" if greatest is None else f"give {least:g} to {greatest:g}"
            raise HarkbackError(f"{name} is {value:g}", where=where, mend=mend)


def check_all(where: str, settings: Any) -> None:
    """`check_limits` of settings that name their own in a class variable ``LIMITS``, and of those inside them."""
    limits: Mapping[str, Limits] = getattr(settings, "LIMITS", {})
    check_limits(where, settings, **limits)
    for field in fields(settings) if is_dataclass(settings) else ():
        inner = getattr(settings, field.name)
        if is_dataclass(inner):
            check_all(f"{where}.{field.name}", inner)
