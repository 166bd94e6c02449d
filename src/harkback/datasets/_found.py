"""What all datasets have in common whose clips are found by looking into a folder or behind a URL."""

from __future__ import annotations

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, final

from harkback.clips import Clip, Skip
from harkback.errors import HarkbackError

if TYPE_CHECKING:
    from harkback.datasets._tree import Tree

SPLITS = ("train", "val", "test")
TEST_SHARE = 4  # One clip in four is kept for testing where the clips have no splits of their own.

Placed = tuple[str | None, Clip]  #: a clip, and its split where one is named


class Found(ABC):
    """A dataset is looked through when it is first asked.

    Of clips that have no split, a quarter of each class (at least one clip, if it has two) is kept for testing, chosen
    by a hash of the clip's id: the same clips on every machine, and adding clips moves few others.
    """

    REMOTE = True  #: ``root`` may be a URL
    LAYOUT = ""  #: how clips should lie, for who has none

    def __init__(self, root: Path | str, tree: Tree | None = None) -> None:
        """root: a folder; or, as text, a URL. tree: what is in it, if that was found out already."""
        root = Path(root) if "://" not in str(root) else root
        self.root, self._listing = root, tree
        if isinstance(root, Path) and not root.exists():
            raise HarkbackError("no such folder", where=root, mend="check the path")
        if isinstance(root, Path) and not root.is_dir():
            raise HarkbackError("is not a folder", where=root, mend=self.LAYOUT)

    @abstractmethod
    def _look(self, skips: list[Skip]) -> Iterable[Placed]:
        """Every clip; to ``skips`` goes what looked like one."""

    @property
    def name(self) -> str:
        if isinstance(self.root, Path):
            return self.root.resolve().name
        return self.root.rstrip("/").rpartition("/")[2]

    @final
    @cached_property
    def _found(self) -> tuple[tuple[Placed, ...], tuple[Skip, ...]]:
        skips: list[Skip] = []
        found: dict[str, Placed] = {}
        try:
            for split, clip in self._look(skips):
                if clip.id in found:
                    skips.append(Skip(clip.id, clip.path, "another clip has this id"))
                else:
                    found[clip.id] = split, clip
        except OSError as error:
            raise HarkbackError(
                error.strerror or str(error), where=error.filename or self.root, mend="check its permissions"
            ) from error
        if not found:
            first = f"; {skips[0].id}: {skips[0].reason}" if skips else ""
            raise HarkbackError(f"there are no clips in it{first}", where=self.root, mend=self.LAYOUT)
        return tuple(found.values()), tuple(skips)

    @property
    def skips(self) -> tuple[Skip, ...]:
        return self._found[1]

    @property
    def lessons(self) -> tuple[Clip, ...]:
        """What a model is taught: clips of train, and those of no split."""
        return tuple(clip for split, clip in self._found[0] if split in (None, "train"))

    @final
    @cached_property
    def splits(self) -> dict[str, tuple[Clip, ...]]:
        by_split: dict[str, list[Clip]] = defaultdict(list)
        loose: list[Clip] = []
        for split, clip in self._found[0]:
            (by_split[split] if split else loose).append(clip)
        for split, clip in _dealt(loose):
            by_split[split].append(clip)
        return {split: tuple(by_split[split]) for split in SPLITS if split in by_split}


def class_name(name: str) -> str:
    # One class must not become two because one file system spells é as two characters.
    return unicodedata.normalize("NFC", plain(name.strip()))


def plain(name: str) -> str:
    """A name that is no valid text must still fit into JSON."""
    return name.encode("utf-8", "backslashreplace").decode()


def window(start: float, end: float | None) -> str:
    """What is added to the id of a clip that is not the whole file."""
    return "" if start == 0 and end is None else f"@{start!r}-{'' if end is None else repr(end)}"


def _dealt(clips: list[Clip]) -> Iterator[tuple[str, Clip]]:
    by_class: dict[str | None, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_class[clip.label].append(clip)
    for members in by_class.values():
        ranked = sorted(members, key=lambda clip: hashlib.sha256(clip.id.encode()).digest())
        held_back = max(1, len(ranked) // TEST_SHARE) if len(ranked) > 1 else 0
        chosen = {clip.id for clip in ranked[:held_back]}
        for clip in members:
            yield ("test" if clip.id in chosen else "train"), clip
