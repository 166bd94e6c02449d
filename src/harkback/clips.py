"""The noun of what lies on disk: a labelled stretch of a media file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harkback.places import Place


@dataclass(frozen=True, slots=True)
class Clip:
    """A file, or a window of one, and what it shows."""

    id: str  #: stable and unique within a dataset
    path: Path | Place
    label: str | None = None  #: class name
    start: float = 0.0  #: seconds
    end: float | None = None  #: seconds; None: to the end


@dataclass(frozen=True, slots=True)
class Skip:
    """A clip that was left out, and why: counted and listed in every report, never dropped in silence."""

    id: str
    path: Path | Place
    reason: str
