"""AV-CIL's benchmarks as the features that its authors released: no video is needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import final

import torch
from tqdm import tqdm

from harkback.clips import Clip, Skip
from harkback.datasets import BenchProtocol
from harkback.datasets._avcil import BENCHES, Bench, bench, shortfall
from harkback.datasets._released import (
    LAYOUT,
    WORDS,
    Arrays,
    Unfit,
    find,
    open_arrays,
    picture_tokens,
    sound_tokens,
    spec_of,
)
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.extract import SHARD, Extraction
from harkback.features import Features
from harkback.store import FeatureStore

ROOM = 2**27  #: bytes of features that are gathered before they are written


@final
class AvcilFeatures:
    """Features by id, of whichever benchmark the ids belong to.

    ``read_pickle``: the user trusts where the files come from. Without it the pickled ones among them, which every
    benchmark has, are an error.
    """

    PICKLED = True

    def __init__(self, root: Path, *, read_pickle: bool = False) -> None:
        self.root = root
        files = find(root)
        self._sound = open_arrays(files["audio"], read_pickle)
        self._picture = open_arrays(files["visual"], read_pickle)

    @property
    def name(self) -> str:
        return f"avcil-features-{self.bench.name}"

    @cached_property
    def bench(self) -> Bench:
        """The benchmark that most of the ids are of."""
        both = self._sound.ids & self._picture.ids
        if not both:
            some = [f'"{min(arrays.ids)}"' if arrays.ids else "none" for arrays in (self._sound, self._picture)]
            what = f"no clip has features of sound and picture: sound has ids like {some[0]}, picture like {some[1]}"
            raise HarkbackError(what, where=self.root, mend=LAYOUT)
        known = {name: sum(len(both & of.keys()) for of in bench(name).splits.values()) for name in BENCHES}
        best = max(BENCHES, key=lambda name: known[name])
        if not known[best]:
            what = f'its {len(both)} ids, such as "{min(both)}", are of none of the benchmarks {", ".join(BENCHES)}'
            raise HarkbackError(what, where=self.root, mend=LAYOUT)
        return bench(best)

    @property
    def protocol(self) -> BenchProtocol:
        return self.bench.protocol

    @property
    def splits(self) -> dict[str, tuple[Clip, ...]]:
        """Clips with features of both kinds; by class in order, then by id. All lie in one file: nothing to look at."""
        return self._found[0]

    @property
    def skips(self) -> tuple[Skip, ...]:
        """Listed clips without features, or with features of one kind alone."""
        return self._found[1]

    @property
    def shortfall(self) -> str:
        """How many of the listed clips are there, and of which classes there are none; nothing if all are."""
        return shortfall(self)

    @cached_property
    def _found(self) -> tuple[dict[str, tuple[Clip, ...]], tuple[Skip, ...]]:
        path = self._picture.path
        there = dict(zip(WORDS, (self._sound.ids, self._picture.ids), strict=True))
        splits: dict[str, tuple[Clip, ...]] = {}
        skips = []
        for split, listed in self.bench.splits.items():
            clips = []
            for clip, label in listed.items():
                lacks = [kind for kind, ids in there.items() if clip not in ids]
                if lacks:
                    skips.append(Skip(clip, path, f"has no {' and no '.join(lacks)} features in the folder"))
                else:
                    clips.append(Clip(clip, path, label))
            if clips:
                splits[split] = tuple(clips)
        return splits, tuple(skips)

    @cached_property
    def spec(self) -> EncoderSpec:
        """The release as an encoder: its revision changes with the content, not with the place."""
        ids = [clip.id for clips in self.splits.values() for clip in clips]
        return spec_of(self.bench.name, ids, self._sound, self._picture)

    def convert(self, clips: Sequence[Clip], root: Path) -> Extraction:
        """Copy the features of these clips into the store at ``root``, in half precision, and return their rows.

        What the store has already is not read again. Stopped at any moment, it keeps all full shards, and on Ctrl-C
        the begun one too. A row's key is the clip's id: the store itself belongs to this release alone.
        """
        began = perf_counter()
        store = FeatureStore.open(root, self.spec)
        wanted = dict.fromkeys(clip.id for clip in clips)
        todo = [name for name in wanted if name not in store.places and name not in store.failures]
        passing = _fill(store, todo, self._sound, self._picture)
        good = [clip for clip in clips if clip.id in store.places]
        why = {**store.failures, **passing}
        ids = tuple(clip.id for clip in good)
        return Extraction(
            tuple(good),
            ids,
            store.rows(ids, ids),
            tuple(Skip(clip.id, clip.path, why[clip.id]) for clip in clips if clip.id in why),
            len(todo),
            perf_counter() - began,
        )


def _fill(store: FeatureStore, todo: Sequence[str], sound: Arrays, picture: Arrays) -> dict[str, str]:
    """Write shards as they fill; returns the failures that are not the clip's own and will be tried again."""
    shape = store.spec.shape
    size = 2 * (shape.audio_tokens * shape.audio_dim + shape.frames * shape.patches * shape.visual_dim)
    rows = max(1, min(SHARD, ROOM // size))
    heard, seen = torch.empty(rows, *shape[:2], dtype=torch.half), torch.empty(rows, *shape[2:], dtype=torch.half)
    keys: list[str] = []
    failures: dict[str, str] = {}
    passing: dict[str, str] = {}

    def flush() -> None:
        count = len(keys)
        there = torch.ones(count, dtype=torch.bool)
        store.add(Features(tuple(keys), heard[:count], seen[:count], there, there.clone()), failures)
        keys.clear()
        failures.clear()

    bar = tqdm(todo, desc="converting", unit="clip", leave=False, disable=not todo)
    with bar, sound.opened() as hear, picture.opened() as look:
        try:
            for name in bar:
                try:
                    tokens = sound_tokens(hear(name)), picture_tokens(look(name))
                    if tokens[0].shape != shape[:2] or tokens[1].shape != shape[2:]:
                        raise Unfit(f"has features of another shape: {[*tokens[0].shape]} and {[*tokens[1].shape]}")
                except Unfit as error:
                    failures[name] = str(error)
                except OSError as error:
                    passing[name] = f"cannot be read: {error.strerror or error}"
                else:
                    heard[len(keys)], seen[len(keys)] = tokens
                    keys.append(name)
                if len(keys) == rows or len(failures) >= SHARD:
                    flush()
        finally:
            flush()
    return passing
