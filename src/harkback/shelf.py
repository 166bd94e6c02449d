"""Rows of shards, read straight from their files into the room where they are wanted.

Not through memory maps. What was touched of a map counts as this process's memory, up to the size of the whole store;
each page costs a fault when it is first touched; and a file that is cut short under a map kills the process. Measured
on one core, rows of 197 KB (2.4 MB) at random, all in the page cache: reading 4.7 (5.7) GB/s; a map whose pages are
let go of after the copy 4.4 (5.9); one whose every page was touched before 5.9 (7.0); copying from memory 5.5 (5.9).
Into 25 MB or less, which stay in the cache, reading does 7.6 GB/s.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harkback.errors import HarkbackError
from harkback.features import Arrays, TokenShape
from harkback.files import explained

FILES = 256  #: files that are open at a time; a process may have 1024, as a rule
PIECE = 2**20  #: bytes read at a time, or one row
VIEWS = 512  #: rows read at a time; the system allows 1024
SHARE = 2**22  #: bytes for which a thread is worth its start
THREADS = 8  #: that read: from a disk that is asked for the first time, twice as fast as one; from the cache, all cores
HEAD = 4096  #: bytes read of a file to begin with: the header of our shards takes 400
KINDS = ("F16", "F16", "BOOL", "BOOL")  #: of `Arrays`, in the words of safetensors

Run = tuple[int, int, list[int]]  #: a shard, the first of rows that stand together in it, and where each is to go


class Shelf:
    """The shards of a store: safetensors with rows of ``audio``, ``visual``, ``heard`` and ``seen``.

    Such a file is its header's length (8 bytes), its header (JSON, which says where each array begins) and the arrays,
    rows one after another.
    """

    def __init__(self, root: Path, shape: TokenShape, shards: list[str], mend: str) -> None:
        """shards: names of the files, without the ending; the list may grow. mend: what to do if one is damaged."""
        self.root, self.shape, self.shards, self.mend = root, shape, shards, mend
        self._sizes = shape.audio_tokens * shape.audio_dim * 2, shape.frames * shape.patches * shape.visual_dim * 2
        self._most = max(1, min(VIEWS, PIECE // max(1, sum(self._sizes))))
        self._layouts: dict[int, _Layout] = {}
        self._file = lru_cache(FILES)(lambda shard: _File(root / f"{shards[shard]}.safetensors", mend))

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process, which opens the files for itself."""
        return Shelf, (self.root, self.shape, self.shards, self.mend)

    def fill(self, places: Sequence[Sequence[int]], out: Arrays, at: Sequence[int]) -> None:
        """Read the row ``places[i]`` into row ``at[i]`` of ``out``, which is contiguous and in half precision.

        places: the number of the shard, and the row in it.
        """
        heard, seen, runs = list[int](), list[int](), list[Run]()
        shard, row, following = -1, 0, list[int]()
        for (of, number), to in zip(places, at, strict=True):
            layout = self._layouts.get(of) or self._layout(of)
            if number >= len(layout.heard):
                raise HarkbackError("a shard is shorter than its list", where=self.root, mend=self.mend)
            heard.append(layout.heard[number])
            seen.append(layout.seen[number])
            if of == shard and number == row + len(following) and len(following) < self._most:
                following.append(to)
            else:
                shard, row, following = of, number, [to]
                runs.append((shard, row, following))
        where = torch.tensor(at, dtype=torch.long)
        for room, flags in ((out.heard, heard), (out.seen, seen)):
            room[where] = torch.tensor(flags, dtype=torch.bool)

        audio, visual = _bytes(out.audio), _bytes(out.visual)
        sound, picture = self._sizes

        def read(run: Run) -> None:
            shard, row, following = run
            file, layout = self._file(shard), self._layouts[shard]
            if audio is not None:
                file.read([audio[to * sound : (to + 1) * sound] for to in following], layout.audio + row * sound)
            if visual is not None:
                views = [visual[to * picture : (to + 1) * picture] for to in following]
                file.read(views, layout.visual + row * picture)

        size = len(at) * (sound * (audio is not None) + picture * (visual is not None))
        _each(read, runs, max(1, min(THREADS, size // SHARE)))

    def _layout(self, shard: int) -> _Layout:
        file = self._file(shard)
        try:
            arrays, begin = _header(file)
            counts = set()
            for name, kind, row in zip(Arrays._fields, KINDS, (self.shape[:2], self.shape[2:], (), ()), strict=True):
                if arrays[name]["dtype"] != kind or tuple(arrays[name]["shape"][1:]) != row:
                    raise HarkbackError("is damaged: not these features", where=file.path, mend=self.mend)
                counts.add(arrays[name]["shape"][0])
            (count,) = counts
            starts = []
            for name, size in zip(Arrays._fields, (*self._sizes, 1, 1), strict=True):
                start, end = arrays[name]["data_offsets"]
                if end - start != count * size or not 0 <= start <= end <= file.size - begin:
                    raise ValueError(f"{name} does not lie in it")
                starts.append(begin + start)
            flags = bytearray(2 * count)
            file.read([memoryview(flags)[:count]], starts[2])
            file.read([memoryview(flags)[count:]], starts[3])
        except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
            raise HarkbackError(f"is damaged: {error}", where=file.path, mend=self.mend) from error
        self._layouts[shard] = _Layout(starts[0], starts[1], bytes(flags[:count]), bytes(flags[count:]))
        return self._layouts[shard]


class _Layout(NamedTuple):
    """Where a shard's arrays begin in its file, in bytes, and what is too small to be read row by row."""

    audio: int
    visual: int
    heard: bytes  #: a byte a row
    seen: bytes


class _File:
    """An open file; closed when the last who uses it lets go of it, be it in another thread."""

    def __init__(self, path: Path, mend: str) -> None:
        self.path, self.mend = path, mend
        try:
            self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, self.number)
            self.size = os.fstat(self.number).st_size
        except OSError as error:
            raise explained(error, path) from error

    def read(self, rooms: list[memoryview], begin: int) -> None:
        """Fill rooms, one after another, with what stands in the file from ``begin`` on."""
        while rooms:
            try:
                got = _read_at(self.number, rooms, begin)
            except OSError as error:
                raise explained(error, self.path) from error
            if not got:
                raise HarkbackError("is damaged: it ends too soon", where=self.path, mend=self.mend)
            begin += got
            done = 0
            while done < len(rooms) and got >= len(rooms[done]):
                got -= len(rooms[done])
                done += 1
            rooms = rooms[done:]
            if got:
                rooms[0] = rooms[0][got:]


def _seek_and_read(number: int, rooms: Sequence[memoryview], begin: int) -> int:
    """What `os.preadv` does, where there is none."""
    with _SEEKING:
        os.lseek(number, begin, os.SEEK_SET)
        data = os.read(number, len(rooms[0]))
    rooms[0][: len(data)] = data
    return len(data)


_SEEKING = threading.Lock()
_read_at: Callable[[int, Sequence[memoryview], int], int] = getattr(os, "preadv", _seek_and_read)


def _header(file: _File) -> tuple[dict[str, Any], int]:
    """The header, and where it ends."""
    head = bytearray(min(HEAD, file.size))
    file.read([memoryview(head)], 0)
    end = 8 + int.from_bytes(head[:8], "little")
    if not 8 < end <= file.size:
        raise ValueError("no safetensors file")
    if end > len(head):
        head = bytearray(end)
        file.read([memoryview(head)], 0)
    return json.loads(head[8:end]), end


def _bytes(array: Tensor) -> memoryview | None:
    return array.view(torch.uint8).flatten().numpy().data if array.numel() else None


def _each(work: Callable[[Run], None], runs: Iterable[Run], threads: int) -> None:
    """The work of each, by so many threads, this one among them."""
    turns = iter(runs)  # Each thread takes the next.

    def some() -> None:
        for run in turns:
            work(run)

    others = [_readers(os.getpid()).submit(some) for _ in range(threads - 1)]
    try:
        some()
    finally:
        for other in others:
            other.result()


@cache
def _readers(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 (a forked process has no threads)
    return ThreadPoolExecutor(THREADS - 1, "harkback-reader")
