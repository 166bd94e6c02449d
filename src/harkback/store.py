"""Where features lie: half-precision tokens in shards, found by the content they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
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
        """What the clip's features are filed under. Reads it, unless its size and time are as last seen."""
        where = clip.path
        if isinstance(where, Path):
            name, stat = str(where.resolve()), where.stat()
            state = stat.st_size, stat.st_mtime_ns
        else:
            name, state = where.name, (where.size, where.changed)
        seen = self._new.get(name) or self.places.source(name)
        if seen is None or seen[:2] != state:
            content = digest(where) if isinstance(where, Path) else sha256(where.read()).hexdigest()
            seen = self._new[name] = Source(*state, content)
        window = "" if clip.start == 0 and clip.end is None else f"@{clip.start!r}-{clip.end!r}"
        return seen.content + window

    def add(self, features: Features, failures: Mapping[str, str]) -> None:
        """Write a shard: rows whose ids are keys, and failures by key. On return they are on the disk.

        A shard without either still keeps what `key` found out about files.
        """
        if not len(features) and not failures and not self._new:
            return
        shard = f"{self.places.next:06d}-{fingerprint(features.ids, sorted(failures))}"
        if len(features):
            arrays = {name: getattr(features, name).contiguous() for name in Arrays._fields}
            write_arrays(self.root / f"{shard}.safetensors", arrays)
        self.places.add(shard, Contents(list(features.ids), dict(failures), self._new))
        self._new = {}

    def rows(self, keys: Sequence[str], ids: Sequence[str]) -> Stored:
        """The rows of these keys, under these ids; nothing is read yet."""
        return Stored(self._shelf, tuple(ids), torch.from_numpy(self.places.find(keys)).int())


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
