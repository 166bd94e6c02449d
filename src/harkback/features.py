"""The noun of what a learner sees: the frozen encoder's tokens of some clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

READ = 128  #: clips read at a time where no gradient is needed
CHUNK = 2**19  #: bytes copied at a time where it takes two steps: they stay in the cache in between


class TokenShape(NamedTuple):
    """The shape of one clip's tokens; the same for all clips of an encoder.

    Both grids cover the clip evenly: audio token ``i`` stands for the stretch ``[i, i + 1) / audio_tokens`` of it,
    frame ``t`` for the instant ``(t + 0.5) / frames``. Attention in time relies on that.
    """

    audio_tokens: int
    audio_dim: int
    frames: int
    patches: int
    visual_dim: int


class Arrays(NamedTuple):
    """Room that rows are copied into; shapes as in `Features`."""

    audio: Tensor
    visual: Tensor
    heard: Tensor
    seen: Tensor


@dataclass(frozen=True, slots=True)
class Features:
    """Tokens in memory; row ``i`` belongs to ``ids[i]``. Half precision as stored, or float32."""

    ids: tuple[str, ...]
    audio: Tensor  #: (clips, audio_tokens, audio_dim); rows of unheard clips are zero and mean nothing
    visual: Tensor  #: (clips, frames, patches, visual_dim); rows of unseen clips are zero and mean nothing
    heard: Tensor  #: (clips,) bool: there was a sound track
    seen: Tensor  #: (clips,) bool: there was a picture

    @property
    def shape(self) -> TokenShape:
        """Numbers of tokens and their widths."""
        return TokenShape(*self.audio.shape[1:], *self.visual.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers that rows come in."""
        return torch.promote_types(self.audio.dtype, self.visual.dtype)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor) -> Features:
        """The given rows (a long tensor), in that order, copied."""
        return Features(
            tuple(self.ids[row] for row in rows.tolist()),
            self.audio[rows],
            self.visual[rows],
            self.heard[rows],
            self.seen[rows],
        )

    def unfit(self) -> Tensor:
        """(clips,) bool: has tokens that are NaN or infinite."""
        there = [tokens.isfinite().flatten(1).all(1) for tokens in (self.audio, self.visual)]
        return ~(there[0] & there[1])

    def fill(self, rows: Tensor, out: Arrays, at: Tensor) -> None:
        """As of `FeatureRows`."""
        for array, room in zip((self.audio, self.visual, self.heard, self.seen), out, strict=True):
            _copy(array, rows, room, at)


class FeatureRows(Protocol):
    """Rows of features that may lie on a disk: only what is asked for is read.

    `Features` is one; so is an open store, and a session's reader.
    """

    @property
    def ids(self) -> tuple[str, ...]:
        """A name for each clip, in the order of the rows."""
        ...

    @property
    def shape(self) -> TokenShape:
        """Numbers of tokens and their widths."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers that rows come in."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Tensor) -> Features: ...
    def fill(self, rows: Tensor, out: Arrays, at: Tensor) -> None:
        """Copy row ``rows[i]`` to row ``at[i]`` of ``out``, whatever the type of its numbers. rows, at: (clips,) long.

        An array of ``out`` that has no columns is not wanted, and what it would hold is not read.
        """


def join(parts: Sequence[Features]) -> Features:
    """The rows of several features, one after another."""
    return Features(
        tuple(name for part in parts for name in part.ids),
        torch.cat([part.audio for part in parts]),
        torch.cat([part.visual for part in parts]),
        torch.cat([part.heard for part in parts]),
        torch.cat([part.seen for part in parts]),
    )


def none_of(shape: TokenShape, dtype: torch.dtype = torch.float16) -> Features:
    """Features of no clips."""
    return Features((), *room_for(shape, 0, dtype))


def blank(shape: TokenShape) -> Features:
    """One clip without sound and without picture."""
    there = torch.zeros(1, dtype=torch.bool)
    return Features(("",), torch.zeros(1, *shape[:2]), torch.zeros(1, *shape[2:]), there, there.clone())


@dataclass(frozen=True, slots=True)
class Rows:
    """A choice of rows of other features, read when asked for."""

    source: FeatureRows
    chosen: Tensor  #: (clips,) long

    @property
    def ids(self) -> tuple[str, ...]:
        """A name for each clip, in the order of the rows."""
        names = self.source.ids
        return tuple(names[row] for row in self.chosen.tolist())

    @property
    def shape(self) -> TokenShape:
        """Numbers of tokens and their widths."""
        return self.source.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers that rows come in."""
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: Tensor) -> Features:
        return self.source[self.chosen[rows]]

    def fill(self, rows: Tensor, out: Arrays, at: Tensor) -> None:
        """As of `FeatureRows`."""
        self.source.fill(self.chosen[rows], out, at)


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows of one source, then rows of another: a session and the memory, without copying either."""

    first: FeatureRows
    second: FeatureRows

    @property
    def ids(self) -> tuple[str, ...]:
        """A name for each clip, in the order of the rows."""
        return self.first.ids + self.second.ids

    @property
    def shape(self) -> TokenShape:
        """Numbers of tokens and their widths."""
        return self.first.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers that rows come in."""
        return torch.promote_types(self.first.dtype, self.second.dtype)

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, rows: Tensor) -> Features:
        return gathered(self, rows)

    def fill(self, rows: Tensor, out: Arrays, at: Tensor) -> None:
        """As of `FeatureRows`."""
        border = len(self.first)
        left = rows < border
        if left.any():
            self.first.fill(rows[left], out, at[left])
        if not left.all():
            self.second.fill(rows[~left] - border, out, at[~left])


def room_for(shape: TokenShape, clips: int, dtype: torch.dtype) -> Arrays:
    """Room for the rows of so many clips, with whatever numbers lie there."""
    there = torch.empty(clips, dtype=torch.bool)
    return Arrays(
        torch.empty(clips, *shape[:2], dtype=dtype), torch.empty(clips, *shape[2:], dtype=dtype), there, there.clone()
    )


def gathered(source: FeatureRows, rows: Tensor) -> Features:
    """The given rows (a long tensor), in that order, copied."""
    room = room_for(source.shape, len(rows), source.dtype)
    source.fill(rows, room, torch.arange(len(rows)))
    names = source.ids
    return Features(tuple(names[row] for row in rows.tolist()), *room)


def _copy(array: Tensor, rows: Tensor, out: Tensor, at: Tensor) -> None:
    """``out[at] = array[rows]``, without a copy in between where the rows stand together in ``out``."""
    if not len(rows) or not out.numel():
        return
    first = int(at[0])
    if out.dtype == array.dtype and torch.equal(at, torch.arange(first, first + len(at))):
        torch.index_select(array, 0, rows, out=out[first : first + len(at)])
        return
    step = max(1, CHUNK // (array[0].numel() * array.element_size()))
    for here, there in zip(rows.split(step), at.split(step), strict=True):
        out[there] = array[here].to(out.dtype)


def batches(count: int, size: int) -> Iterator[Tensor]:
    """Row numbers ``0 .. count - 1`` in order, ``size`` at a time."""
    yield from torch.arange(count).split(size) if count else ()
