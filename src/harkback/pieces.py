"""Clips a few at a time: as many as stay in the cache of a core while several things are done to their tokens."""

from __future__ import annotations

from collections.abc import Iterator

from harkback.features import Features

CACHED = 1 << 19  #: numbers worked on at once: 2 MB of float32


def at_once(numbers: int) -> int:
    """How many clips of so many numbers each."""
    return max(1, CACHED // max(1, numbers))


def pieces(clips: Features, numbers: int) -> Iterator[tuple[slice, Features]]:
    """Which clips, and those clips, not copied. numbers: how many a clip comes to. Of no clips there is one piece."""
    step = at_once(numbers)
    for first in range(0, max(1, len(clips)), step):
        some = slice(first, first + step)
        tokens = clips.audio[some], clips.visual[some]
        yield some, Features(clips.ids[some], *tokens, clips.heard[some], clips.seen[some])
