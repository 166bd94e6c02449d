"""What a store holds, found without reading what all its shards say.

The lists beside the shards (JSON) are the truth. Of most of them there is an index, which is mapped: names, as digests,
in order, and what is known of each. It is only a cache: one that is stale or damaged is made anew, one that cannot be
written is done without.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from string import digits
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harkback.errors import HarkbackError
from harkback.files import explained, read_arrays, read_json, write_arrays, write_json

FILE = "index.safetensors"
VERSION = 1
LOOSE = 16  #: shards that the index may lack: reading their lists takes 2 ms, writing the index anew up to a hundred
_WRITING = threading.Lock()  #: two threads would write to one temporary file

Table = NDArray[Any]
State = tuple[int, int]  #: of a shard's list: bytes, and ns since 1970 when it was written


class Source(NamedTuple):
    """A file as it was when its content was looked at."""

    size: int  #: bytes
    changed: int  #: ns since 1970
    content: str  #: SHA-256


class Contents(NamedTuple):
    """What a shard's list says."""

    keys: list[str]
    failures: dict[str, str]  #: key -> why it cannot be read
    sources: dict[str, Source]  #: path -> what it was


class Catalogue(Collection[str]):
    """The keys that have a row, and where it lies; why other keys failed; the files that were looked at."""

    def __init__(self, root: Path, mend: str) -> None:
        """mend: what to do if a list is damaged."""
        self.root, self.mend = root, mend
        found = _found(root)
        self._index = _Index.read(root, found)
        self.shards = list(self._index.shards)  #: names of their files, without the ending
        self.failures = dict(self._index.failures)
        self._places: dict[str, tuple[int, int]] = {}  #: of shards that the index lacks
        self._sources: dict[str, Source] = {}
        loose = [shard for shard in found if shard not in self._index.shards]
        lists = {shard: self._list(shard) for shard in loose}
        if len(loose) > LOOSE:
            self._index = self._index.extended(lists, found)
            self.shards, self.failures = list(self._index.shards), dict(self._index.failures)
            with suppress(HarkbackError), _WRITING:
                self._index.write(root)
        else:
            for shard, contents in lists.items():
                self._take(shard, contents)

    @property
    def next(self) -> int:
        """The number of the next shard."""
        return max(map(_number, self.shards), default=-1) + 1

    def add(self, shard: str, contents: Contents) -> None:
        """Write the list of a shard whose arrays are on the disk."""
        write_json(self.root / f"{shard}.json", contents._asdict())
        self._take(shard, contents)

    def _take(self, shard: str, contents: Contents) -> None:
        number = len(self.shards)
        self.shards.append(shard)
        self._places.update({key: (number, row) for row, key in enumerate(contents.keys)})
        self.failures.update(contents.failures)
        self._sources.update(contents.sources)

    def source(self, path: str) -> Source | None:
        return self._sources.get(path) or self._index.source(path)

    def find(self, keys: Sequence[str]) -> Table:
        """(keys, 2) int64: the number of the shard, in `shards`, and the row in it. `KeyError` for a key without."""
        found = self._index.find(keys)
        if self._places:
            for i, key in enumerate(keys):
                if key in self._places:
                    found[i] = self._places[key]
        if (found < 0).any():
            raise KeyError(keys[int((found[:, 0] < 0).argmax())])
        return found

    def __contains__(self, key: object) -> bool:
        return key in self._places or (isinstance(key, str) and self._index.has(key))

    def __len__(self) -> int:
        return self._index.count + sum(not self._index.has(key) for key in self._places)

    def __iter__(self) -> Iterator[str]:
        """From the lists: the index knows no names."""
        return iter(dict.fromkeys(key for shard in self.shards for key in self._list(shard).keys))

    def _list(self, shard: str) -> Contents:
        path = self.root / f"{shard}.json"
        facts = read_json(path, self.mend)
        try:
            _number(shard)
            contents = Contents(
                [*map(_text, facts["keys"])],
                {_text(key): _text(why) for key, why in facts["failures"].items()},
                {path: Source(*seen) for path, seen in facts["sources"].items()},
            )
            _packed(contents.sources)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, struct.error) as error:
            raise HarkbackError("is damaged: no list of a shard", where=path, mend=self.mend) from error
        return contents


class _Index:
    """Names as the first 16 bytes of their BLAKE2b, sorted, with what is known of each; and whose lists are in it."""

    def __init__(self, arrays: Mapping[str, Table], shards: Mapping[str, State], failures: dict[str, str]) -> None:
        """arrays: keys (2, names) and places (names, 2), files (2, names) and sources (names, 48 bytes)."""
        self.arrays, self.shards, self.failures = arrays, shards, failures
        self.count = len(arrays["places"])
        self._keys, self._files = ([row.data for row in arrays[name]] for name in ("keys", "files"))

    @classmethod
    def read(cls, root: Path, found: Mapping[str, State]) -> _Index:
        """The index at ``root``; one of nothing if there is none, or a shard is not as it was, or a byte of it."""
        with suppress(HarkbackError, KeyError, ValueError, TypeError):
            arrays = {name: array.numpy() for name, array in read_arrays(root / FILE).items()}
            if _check(arrays) == arrays.pop("check").tolist():
                facts = json.loads(arrays.pop("facts").tobytes())
                shards = {name: (size, changed) for name, size, changed in facts["shards"]}
                if all(found.get(name) == state for name, state in shards.items()):
                    return cls(arrays, shards, facts["failures"])
        none, places, sources = np.zeros((2, 0), np.int64), np.zeros((0, 2), np.int64), np.zeros((0, 48), np.uint8)
        return cls({"keys": none, "places": places, "files": none, "sources": sources}, {}, {})

    def write(self, root: Path) -> None:
        facts = {"shards": [[name, *state] for name, state in self.shards.items()], "failures": self.failures}
        text = np.frombuffer(json.dumps(facts).encode("ascii"), np.uint8)
        arrays: dict[str, Table] = {**self.arrays, "facts": text}
        arrays["check"] = np.array(_check(arrays), np.int64)
        write_arrays(root / FILE, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()})

    def extended(self, lists: Mapping[str, Contents], found: Mapping[str, State]) -> _Index:
        """With these shards too. Of several facts about a name the last one holds."""
        failures, first = dict(self.failures), len(self.shards)
        for contents in lists.values():
            failures.update(contents.failures)
        keys = [key for contents in lists.values() for key in contents.keys]
        rows = [(first + i, row) for i, contents in enumerate(lists.values()) for row in range(len(contents.keys))]
        files = [path for contents in lists.values() for path in contents.sources]
        seen = b"".join(_packed(contents.sources) for contents in lists.values())
        arrays = {}
        for name, told, names, new in (
            ("keys", "places", keys, np.array(rows, np.int64)),
            ("files", "sources", files, np.frombuffer(seen, np.uint8)),
        ):
            marks = np.concatenate([self.arrays[name].T, _marks(names)])
            facts = np.concatenate([self.arrays[told], new.reshape(len(names), self.arrays[told].shape[1])])
            order = np.lexsort((marks[:, 1], marks[:, 0]))  # It leaves equals in their order.
            marks, facts = marks[order], facts[order]
            last = np.ones(len(marks), np.bool_)
            last[:-1] = (marks[1:] != marks[:-1]).any(1)
            arrays[name], arrays[told] = np.ascontiguousarray(marks[last].T), facts[last]
        return _Index(arrays, {**self.shards, **{name: found[name] for name in lists}}, failures)

    def has(self, key: str) -> bool:
        return _find(self._keys, key) is not None

    def find(self, keys: Sequence[str]) -> Table:
        """(keys, 2) int64; -1 for a key that is not there."""
        if not self.count:
            return np.full((len(keys), 2), -1)
        marks, (one, other) = _marks(keys), self.arrays["keys"]
        at = np.searchsorted(one, marks[:, 0]).clip(max=self.count - 1)
        there = (one[at] == marks[:, 0]) & (other[at] == marks[:, 1])
        return np.where(there[:, None], self.arrays["places"][at], -1)

    def source(self, path: str) -> Source | None:
        at = _find(self._files, path)
        if at is None:
            return None
        size, changed, content = struct.unpack("<qq32s", self.arrays["sources"][at].tobytes())
        return Source(size, changed, content.hex())


def _found(root: Path) -> dict[str, State]:
    """The shards of a folder that are whole: those that have their list."""
    try:
        with os.scandir(root) as entries:
            lists = [entry for entry in entries if entry.name.endswith(".json") and entry.name[0] in digits]
            states = {each.name.removesuffix(".json"): each.stat() for each in lists}
    except OSError as error:
        raise explained(error, root) from error
    return {name: (states[name].st_size, states[name].st_mtime_ns) for name in sorted(states)}


def _check(arrays: Mapping[str, Table]) -> list[int]:
    return [VERSION, *(zlib.crc32(arrays[name].data) for name in ("keys", "places", "files", "sources", "facts"))]


def _mark(name: str) -> bytes:
    """Two names have one mark with a chance of 1 in 10^28, at 100,000 names."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _marks(names: Sequence[str]) -> Table:
    """(names, 2) int64"""
    return np.frombuffer(b"".join(map(_mark, names)), "<i8").astype(np.int64).reshape(-1, 2)


def _find(marks: Sequence[Any], name: str) -> int | None:
    """The same for one name, a hundred times as quick as NumPy would be."""
    one, other = struct.unpack("<qq", _mark(name))
    at = bisect_left(marks[0], one)
    return at if at < len(marks[0]) and marks[0][at] == one and marks[1][at] == other else None


def _number(shard: str) -> int:
    return int(shard.partition("-")[0])


def _packed(sources: Mapping[str, Source]) -> bytes:
    """48 bytes each."""
    contents = [bytes.fromhex(seen.content) for seen in sources.values()]
    if any(len(content) != 32 for content in contents):
        raise ValueError("no SHA-256")
    return b"".join(struct.pack("<qq32s", *seen[:2], c) for seen, c in zip(sources.values(), contents, strict=True))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
