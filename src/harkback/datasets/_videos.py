"""A benchmark's videos in a folder, found by the names that the data set gives its files."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from harkback.clips import Clip, Skip
from harkback.datasets import BenchProtocol
from harkback.datasets._avcil import Bench, bench, shortfall, told
from harkback.datasets._walk import files_in
from harkback.errors import HarkbackError

#: Endings of films. Sound alone (wav) is not among them: extracted sound tracks often lie beside the videos.
ENDINGS = frozenset(("mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp", "ts"))
ABSENT = "is not in the folder"

VIDEO = r"(?P<video>[A-Za-z0-9_-]{11})"  #: a YouTube id; it may begin with "-" and hold "_"


class BenchVideos:
    """What the video benchmarks share. A dataset of this kind is the three names below, and nothing else.

    The folder is searched once, with its sub-folders and through links; hidden files and folders are passed over, and
    so is everything whose name is not that of a listed clip.
    """

    BENCH: ClassVar[str]  #: the list
    NAMING: ClassVar[str]  #: how the files are called, for people
    PATTERN: ClassVar[str]  #: the same as a regular expression of the name without its ending: ``video``, and ``start``

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "no such folder"
            raise HarkbackError(what, where=root, mend=f"give the folder of the videos, like {self.name}:FOLDER")

    @property
    def name(self) -> str:
        return self.bench.name

    @property
    def bench(self) -> Bench:
        return bench(self.BENCH)

    @property
    def protocol(self) -> BenchProtocol:
        return self.bench.protocol

    @property
    def splits(self) -> dict[str, tuple[Clip, ...]]:
        """Those of "train", "val" and "test" of which there are clips; by class in order, then by id."""
        return self._found[0]

    @property
    def skips(self) -> tuple[Skip, ...]:
        """Listed clips that are not there, then files of clips that another file holds already."""
        return self._found[1]

    @property
    def shortfall(self) -> str:
        """How many of the listed clips are there, and of which classes there are none; nothing if all are."""
        return shortfall(self)

    @cached_property
    def _found(self) -> tuple[dict[str, tuple[Clip, ...]], tuple[Skip, ...]]:
        whole = self.bench
        places = self._places({clip for clips in whole.splits.values() for clip in clips})
        if not places:
            raise HarkbackError(
                f"holds no clip of {whole.name}: {told(whole)}",
                where=self.root,
                mend=f"its files, in any sub-folders, must be called {self.NAMING} (or .mkv, .webm, .avi, .mov)",
            )
        splits: dict[str, tuple[Clip, ...]] = {}
        absent: list[Skip] = []
        twice: list[Skip] = []
        for split, listed in whole.splits.items():
            clips = []
            for clip, label in listed.items():
                if clip not in places:
                    absent.append(Skip(clip, self.root / f"{clip}.mp4", ABSENT))
                    continue
                first, *others = sorted(places[clip])
                clips.append(Clip(clip, self.root / first, label))
                shown = first.encode("utf-8", "backslashreplace").decode()
                twice += [Skip(clip, self.root / other, f"is there twice: {shown} is taken") for other in others]
            if clips:
                splits[split] = tuple(clips)
        return splits, tuple(absent + twice)

    def _places(self, wanted: set[str]) -> dict[str, list[str]]:
        """Clip id -> its files, relative to the root and with ``/``."""
        named = re.compile(self.PATTERN, re.ASCII)
        places: dict[str, list[str]] = defaultdict(list)
        for path in files_in(self.root):
            stem, _, ending = path.rpartition("/")[2].rpartition(".")
            if ending.lower() not in ENDINGS or not (match := named.fullmatch(stem)):
                continue
            start = match.groupdict().get("start")
            clip = match["video"] if start is None else f"{match['video']}_{start:0>6}"
            if clip in wanted:
                places[clip].append(path)
        return places
