"""Clips -> features in a store: decoding on all cores, resumable, and honest about what failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from tqdm import tqdm

from harkback.clips import Clip, Skip
from harkback.confined import Limits
from harkback.decoding import Failed, encoded
from harkback.encoders import Encoder
from harkback.features import FeatureRows, Features, TokenShape, join, none_of
from harkback.places import Place
from harkback.store import FeatureStore
from harkback.workers import cores

if TYPE_CHECKING:
    from harkback.engine import Engine

SHARD = 64  #: clips tried for a shard, and so the most that a kill can lose


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came of some clips. ``features`` row ``i`` belongs to ``clips[i]``."""

    clips: tuple[Clip, ...]
    keys: tuple[str, ...]  #: content of each clip; equal keys: the same bytes and window
    features: FeatureRows
    skips: tuple[Skip, ...]
    encoded: int  #: clips that had to be encoded now; the others were in the store
    seconds: float


def extract(
    clips: Sequence[Clip],
    encoder: Encoder,
    root: Path,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    tell: Callable[[Clip], None] = lambda _: None,
    on: Engine | None = None,
) -> Extraction:
    """Encode what the store does not have yet, and return the rows of all clips that could be read.

    workers: processes that decode (and encode, where the encoder needs no device); None: one a core; 0: this process.
    limits: of each clip's reading, which then has a process of its own; for clips from strangers. tell: is told of each
    clip that has been tried. on: machines that do the work instead of this one; the store is the same. Stopped at any
    moment, it keeps all full shards, and on Ctrl-C the begun one too.
    """
    began = perf_counter()
    store = FeatureStore.open(root, encoder.spec)
    if on is not None:
        _look_at(clips, store, on)
    keys, unreadable = _keys(clips, store)
    todo = {key: clip for clip, key in keys if key not in store.places and key not in store.failures}
    with tqdm(total=len(todo), desc="encoding", unit="clip", leave=False, disable=not todo) as bar:

        def kept(key: str) -> None:
            bar.update()
            tell(todo[key])

        if on is None:
            passing = _fill(store, encoded(todo, encoder, cores() if workers is None else workers, limits), kept)
        else:
            passing = on.fill(store, todo, encoder, kept)
    good = [(clip, key) for clip, key in keys if key in store.places]
    why = {**store.failures, **passing}
    bad = [Skip(clip.id, clip.path, why[key]) for clip, key in keys if key in why]
    return Extraction(
        tuple(clip for clip, _ in good),
        tuple(key for _, key in good),
        store.rows([key for _, key in good], [clip.id for clip, _ in good]),
        tuple(unreadable + bad),
        len(todo),
        perf_counter() - began,
    )


def _look_at(clips: Sequence[Clip], store: FeatureStore, on: Engine) -> None:
    """Find out what the files hold that were never looked at; whoever cannot be read is left to `_keys` to tell."""

    def unknown(path: Path | Place) -> bool:
        with suppress(OSError):
            return store.known(path) is None
        return False

    paths = list(dict.fromkeys(clip.path for clip in clips))
    with ThreadPoolExecutor(min(8, cores() + 2)) as pool:
        new = [path for path, is_new in zip(paths, pool.map(unknown, paths), strict=True) if is_new]
    for path, source in tqdm(on.sources(new), total=len(new), desc="hashing", unit="clip", leave=False, delay=1):
        if source is not None:
            store.learn(path, source)


def _keys(clips: Sequence[Clip], store: FeatureStore) -> tuple[list[tuple[Clip, str]], list[Skip]]:
    def key(clip: Clip) -> tuple[Clip, str] | Skip:
        try:
            return clip, store.key(clip)
        except OSError as error:
            return Skip(clip.id, clip.path, error.strerror or str(error))

    with ThreadPoolExecutor(min(8, cores() + 2)) as pool:
        found = list(tqdm(pool.map(key, clips), total=len(clips), desc="hashing", unit="clip", leave=False, delay=1))
    return [f for f in found if not isinstance(f, Skip)], [f for f in found if isinstance(f, Skip)]


class Gathered:
    """What came of clips that were tried, until it is written."""

    def __init__(self) -> None:
        self.tried = 0
        self.parts: list[Features] = []
        self.failures: dict[str, str] = {}  #: that lie in the clip
        self.passing: dict[str, str] = {}  #: that do not, so that the clip will be tried again

    def add(self, key: str, outcome: Features | Failed) -> None:
        self.tried += 1
        if isinstance(outcome, Failed):
            (self.failures if outcome.lasting else self.passing)[key] = outcome.reason
        else:
            self.parts.append(replace(outcome, ids=(key,)))

    def features(self, shape: TokenShape) -> Features:
        return join(self.parts) if self.parts else none_of(shape)


def _fill(
    store: FeatureStore, outcomes: Iterator[tuple[str, Features | Failed]], kept: Callable[[str], None]
) -> dict[str, str]:
    """Write a shard for each `SHARD` clips; returns the failures that are not the clip's own."""
    passing: dict[str, str] = {}
    writes: deque[Future[None]] = deque()  #: at most one: the shard before the one that fills
    gathered = Gathered()

    def flush(writer: ThreadPoolExecutor) -> None:
        """Written beside the work on the next shard: a device does not wait for the disk."""
        nonlocal gathered
        full, gathered = gathered, Gathered()
        passing.update(full.passing)
        while writes:
            writes.popleft().result()
        writes.append(writer.submit(_write, store, full))

    with ThreadPoolExecutor(1) as writer:
        try:
            for key, outcome in outcomes:
                gathered.add(key, outcome)
                if gathered.tried == SHARD:
                    flush(writer)
                kept(key)  # Last: what was counted is kept, even if Ctrl-C comes now.
        finally:
            flush(writer)
            writes.popleft().result()
    return passing


def _write(store: FeatureStore, full: Gathered) -> None:
    store.add(full.features(store.spec.shape), full.failures)
