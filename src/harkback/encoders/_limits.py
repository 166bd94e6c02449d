"""Settings that mean something."""

from __future__ import annotations

from harkback.errors import HarkbackError


def check_limits(where: str, settings: object, **limits: tuple[float, float | None]) -> None:
    """limits: least and greatest of each named setting, both allowed; a setting that is None is not set."""
    for name, (least, greatest) in limits.items():
        value = getattr(settings, name)
        if value is not None and not (least <= value and (greatest is None or value <= greatest)):
            mend = f"give {least:g} or more" if greatest is None else f"give {least:g} to {greatest:g}"
            raise HarkbackError(f"{name} is {value:g}", where=where, mend=mend)
