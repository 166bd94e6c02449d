"""Where features lie: half-precision tokens in memory-mapped shards, found by the content they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harkback.clips import Clip
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.features import Features, TokenShape, none_of
from harkback.files import digest, fingerprint, read_arrays, read_json, sweep, write_arrays, write_json
from harkback.state import State

FORMAT = 1
ARRAYS = ("audio", "visual", "heard", "seen")


def usual_store(out: Path, spec: EncoderSpec) -> Path:
    """Where the features of an encoder lie if nobody says where: each encoder, model and setting has a folder."""
    return out / "features" / f"{spec.name}-{spec.key}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row lies."""

    shard: str  #: name of its files, without the ending
    row: int


@dataclass(slots=True)
class FeatureStore:
    """A folder of shards. A row's key is made of the bytes of its source file and the window, not of its name.

    ``store.json`` says which encoder made it; ``000000-<of what>.safetensors`` holds rows of ``audio``, ``visual``,
    ``heard`` and ``seen``; its ``.json``, written last, says whose rows they are, and which clips failed and why. A
    shard without its JSON is the remains of a killed process. Shards are named by what they hold, so two processes
    that fill one store write no shard over another's.
    """

    root: Path
    spec: EncoderSpec
    places: dict[str, Place] = field(default_factory=dict)  #: key -> row
    failures: dict[str, str] = field(default_factory=dict)  #: key -> why it cannot be read
    _sources: dict[str, tuple[int, int, str]] = field(default_factory=dict)  #: path -> size, mtime in ns, SHA-256
    _new_sources: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    _shards: dict[str, State] = field(default_factory=dict)
    _next: int = 0

    def __getstate__(self) -> dict[str, Any]:
        """For another process: where everything lies, without the maps, which it opens for itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"_shards": {}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    @classmethod
    def open(cls, root: Path, spec: EncoderSpec) -> FeatureStore:
        """Open the store, or begin one; `HarkbackError` if another encoder made it."""
        about = root / "store.json"
        if about.exists():
            facts = read_json(about, _again(root))
            _same_encoder(facts, spec, root)
        else:
            if root.exists() and (not root.is_dir() or any(root.glob("[!.]*"))):
                raise HarkbackError("is not a feature store", where=root, mend="give --store a new or an empty folder")
            write_json(about, {"format": FORMAT, "key": spec.key, "encoder": spec.facts()})
        store = cls(root, spec)
        sweep(root)
        for path in sorted(root.glob("[0-9]*.json")):
            try:
                store._take(path.stem, read_json(path, _again(root)))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise HarkbackError("is damaged: no list of a shard", where=path, mend=_again(root)) from error
        return store

    def _take(self, shard: str, facts: Mapping[str, Any]) -> None:
        for row, key in enumerate(facts["keys"]):
            self.places[key] = Place(shard, row)
        self.failures.update(facts["failures"])
        self._sources.update({path: tuple(seen) for path, seen in facts["sources"].items()})
        self._next = int(shard.partition("-")[0]) + 1

    def key(self, clip: Clip) -> str:
        """What the clip's features are filed under. Reads the file, unless its size and time are as last seen."""
        path, stat = str(clip.path.resolve()), clip.path.stat()
        seen = self._sources.get(path)
        if seen is None or seen[:2] != (stat.st_size, stat.st_mtime_ns):
            seen = (stat.st_size, stat.st_mtime_ns, digest(clip.path))
            self._sources[path] = self._new_sources[path] = seen
        window = "" if clip.start == 0 and clip.end is None else f"@{clip.start!r}-{clip.end!r}"
        return seen[2] + window

    def add(self, features: Features, failures: Mapping[str, str]) -> None:
        """Write a shard: rows whose ids are keys, and failures by key. On return they are on the disk.

        A shard without either still keeps what `key` found out about files.
        """
        if not len(features) and not failures and not self._new_sources:
            return
        shard = f"{self._next:06d}-{fingerprint(features.ids, sorted(failures))}"
        arrays = {name: getattr(features, name).contiguous() for name in ARRAYS}
        if len(features):
            write_arrays(self._path(shard, "safetensors"), arrays)
        facts = {"keys": list(features.ids), "failures": dict(failures), "sources": self._new_sources}
        write_json(self._path(shard, "json"), facts)
        self._take(shard, facts)
        self._new_sources = {}

    def rows(self, keys: Sequence[str], ids: Sequence[str]) -> Stored:
        """The rows of these keys, under these ids; nothing is read yet."""
        return Stored(self, tuple(ids), tuple(self.places[key] for key in keys))

    def shard(self, name: str) -> State:
        """The arrays of a shard, in its memory map."""
        if name not in self._shards:
            path = self._path(name, "safetensors")
            arrays = read_arrays(path, _again(self.root))
            shape = self.spec.shape
            for array, expected in zip(ARRAYS, (shape[:2], shape[2:], (), ()), strict=True):
                if array not in arrays or arrays[array].shape[1:] != expected:
                    raise HarkbackError("is damaged: not these features", where=path, mend=_again(self.root))
            self._shards[name] = arrays
        return self._shards[name]

    def _path(self, shard: str, kind: str) -> Path:
        return self.root / f"{shard}.{kind}"


@dataclass(frozen=True, slots=True)
class Stored:
    """Rows of a store that are read when asked for."""

    store: FeatureStore
    ids: tuple[str, ...]
    places: tuple[Place, ...]

    @property
    def shape(self) -> TokenShape:
        return self.store.spec.shape

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor) -> Features:
        """The given rows, in that order, read from the memory map: half precision."""
        wanted = rows.tolist()
        by_shard: dict[str, list[int]] = {}
        for i, row in enumerate(wanted):
            by_shard.setdefault(self.places[row].shard, []).append(i)
        out = {name: array.new_empty(len(wanted), *array.shape[1:]) for name, array in _arrays(none_of(self.shape))}
        for shard_name, mine in by_shard.items():
            shard = self.store.shard(shard_name)
            place = torch.tensor([self.places[wanted[i]].row for i in mine])
            for name in ARRAYS:
                if int(place.max()) >= len(shard[name]):
                    raise HarkbackError(
                        "a shard is shorter than its list", where=self.store.root, mend=_again(self.store.root)
                    )
                out[name][torch.tensor(mine)] = shard[name][place]
        return Features(tuple(self.ids[row] for row in wanted), **out)


def _arrays(features: Features) -> Iterable[tuple[str, Tensor]]:
    return ((name, getattr(features, name)) for name in ARRAYS)


def _again(root: Path) -> str:
    return f"delete {root} and extract again"


def _same_encoder(facts: Mapping[str, Any], spec: EncoderSpec, root: Path) -> None:
    with suppress(KeyError, TypeError):
        if facts["format"] != FORMAT:
            raise HarkbackError(
                f"is a feature store of format {facts['format']}; this version reads format {FORMAT}",
                where=root,
                mend="update harkback, or give --store another folder",
            )
        if facts["key"] == spec.key:
            return
        made = facts["encoder"]
        raise HarkbackError(
            f"holds features of encoder {made['name']} revision {made['revision']}, not of {spec.name} {spec.revision}",
            where=root,
            mend="give --store another folder, or the encoder that made it",
        )
    raise HarkbackError("its store.json is not one of ours", where=root, mend="give --store another folder")
