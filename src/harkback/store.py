"""Where features lie: half-precision tokens in shards, found by the content they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harkback.catalogue import Catalogue, Contents, Source
from harkback.clips import Clip
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.features import Arrays, Features, TokenShape, gathered
from harkback.files import digest, fingerprint, read_json, sweep, write_arrays, write_json
from harkback.places import Place
from harkback.shelf import Shelf

FORMAT = 1
AT_ONCE = 8  #: rows read at a time where their numbers are to be converted


def usual_store(out: Path, spec: EncoderSpec) -> Path:
    """Where the features of an encoder lie if nobody says where: each encoder, model and setting has a folder."""
    return out / "features" / f"{spec.name}-{spec.key}"


class FeatureStore:
    """A folder of shards. A row's key is made of the bytes of its source file and the window, not of its name.

    ``store.json`` says which encoder made it; ``000000-<of what>.safetensors`` holds rows of ``audio``, ``visual``,
    ``heard`` and ``seen``; its ``.json``, written last, says whose rows they are, and which clips failed and why. A
    shard without its JSON is the remains of a killed process. Shards are named by what they hold, so two processes
    that fill one store write no shard over another's. ``index.safetensors`` is a cache of most of the lists.
    """

    def __init__(self, root: Path, spec: EncoderSpec, places: Catalogue) -> None:
        self.root, self.spec = root, spec
        self.places = places  #: the keys that have a row
        self._shelf = Shelf(root, spec.shape, places.shards, _again(root))
        self._new: dict[str, Source] = {}  #: files that were looked at since a shard was written

    @property
    def failures(self) -> dict[str, str]:
        """Why the clips of other keys cannot be read."""
        return self.places.failures

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
        sweep(root)
        return cls(root, spec, Catalogue(root, _again(root)))

    def key(self, clip: Clip) -> str:
        """What the clip's features are filed under. Reads the file, unless its size and time are as last seen."""
        seen = self.known(clip.path) or self.learn(clip.path, source_of(clip.path))
        window = "" if clip.start == 0 and clip.end is None else f"@{clip.start!r}-{clip.end!r}"
        return seen.content + window

    def known(self, path: Path | Place) -> Source | None:
        """What the file held when it was looked at; None if it never was, or has changed since."""
        name, size, changed = _as_it_is(path)
        seen = self._new.get(name) or self.places.source(name)
        return seen if seen is not None and seen[:2] == (size, changed) else None

    def learn(self, path: Path | Place, source: Source) -> Source:
        """Remember what a file holds; written down with the next shard."""
        self._new[_as_it_is(path)[0]] = source
        return source

    def add(self, features: Features, failures: Mapping[str, str]) -> None:
        """Write a shard: rows whose ids are keys, and failures by key. On return they are on the disk.

        A shard without either still keeps what was learnt about files.
        """
        with self._shard(features.ids, failures) as path:
            if len(features):
                write_arrays(path, {name: getattr(features, name).contiguous() for name in Arrays._fields})

    def adopt(self, keys: Sequence[str], failures: Mapping[str, str], arrays: Path) -> None:
        """As `add`, of rows that lie in a file already, in this file system, which is moved."""
        with self._shard(keys, failures) as path:
            if keys:
                arrays.replace(path)

    @contextmanager
    def _shard(self, keys: Sequence[str], failures: Mapping[str, str]) -> Iterator[Path]:
        """Where the next shard's arrays are to be put; its list is written when they are."""
        shard = f"{self.places.next:06d}-{fingerprint(keys, sorted(failures))}"
        yield self.root / f"{shard}.safetensors"
        if keys or failures or self._new:
            self.places.add(shard, Contents(list(keys), dict(failures), dict(sorted(self._new.items()))))
            self._new = {}

    def rows(self, keys: Sequence[str], ids: Sequence[str]) -> Stored:
        """The rows of these keys, under these ids; nothing is read yet."""
        return Stored(self._shelf, tuple(ids), torch.from_numpy(self.places.find(keys)).int())


def source_of(path: Path | Place) -> Source:
    """Look at a file's content. Raises `OSError`."""
    _, size, changed = _as_it_is(path)  # First: what is written meanwhile is then noticed the next time.
    return Source(size, changed, digest(path) if isinstance(path, Path) else sha256(path.read()).hexdigest())


def _as_it_is(path: Path | Place) -> tuple[str, int, int]:
    """What a file is listed as; its bytes; when it was written, in ns since 1970, or what else tells its versions."""
    if not isinstance(path, Path):
        return path.name, path.size, path.changed
    stat = path.stat()
    # Where a clock was wrong there are times beyond the year 2262, which 64 bits do not hold.
    return str(path.resolve()), stat.st_size, min(stat.st_mtime_ns, 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Stored:
    """Rows of a store that are read when asked for."""

    shelf: Shelf
    ids: tuple[str, ...]
    places: Tensor  #: (clips, 2) int32: number of the shard, row in it

    @property
    def shape(self) -> TokenShape:
        return self.shelf.shape

    @property
    def dtype(self) -> torch.dtype:
        return torch.float16

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor) -> Features:
        return gathered(self, rows)

    def fill(self, rows: Tensor, out: Arrays, at: Tensor) -> None:
        if all(room.is_contiguous() and room.dtype == self.dtype for room in out[:2]):
            self.shelf.fill(self.places[rows].tolist(), out, at.tolist())
            return
        for some, places in zip(rows.split(AT_ONCE), at.split(AT_ONCE), strict=True):
            part = self[some]
            part.fill(torch.arange(len(part)), out, places)


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
