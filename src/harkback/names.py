"""Names of classes that a model can carry: they must survive as folders, in tables and in subtitles."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from harkback.errors import HarkbackError

LONGEST = 120  #: characters
WIDEST = 255  #: bytes: what disks take for a folder's name
TAKEN = "unknown"  #: what a model says of clips of no class


def check_names(new: Iterable[str], known: Sequence[str]) -> None:
    """Raise `HarkbackError` if one of the new names could not stand beside the others and those known."""
    folded = {_folded(name): name for name in known}
    for name in new:
        problem = _problem(name)
        if problem is not None:
            shown = name if len(name) <= 40 else f"{name[:40]}..."
            raise HarkbackError(f'a class cannot be named "{shown}": {problem}', mend="rename its folder or label")
        other = folded.setdefault(_folded(name), name)
        if other != name:
            raise HarkbackError(
                f'two classes would be named "{other}" and "{name}", which many disks take for one',
                mend=f'rename one of them, or move the clips of "{name}" to "{other}"',
            )


def _problem(name: str) -> str | None:
    if not name.strip(" ."):
        return "nothing is left of it as a folder's name"
    if len(name) > LONGEST:
        return f"it has {len(name)} characters, and {LONGEST} are the most"
    if "/" in name or "\\" in name:
        return "a slash divides folders"
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        return "it holds control characters"
    if len(name.encode()) > WIDEST:
        return f"it has {len(name.encode())} bytes, and {WIDEST} are the most"
    if _folded(name) == TAKEN:
        return "that is what a model says of clips of no class"
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()
