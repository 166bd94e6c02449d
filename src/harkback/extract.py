"""Clips -> features in a store: decoding on all cores, resumable, and honest about what failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from harkback.clips import Clip, Skip
from harkback.encoders import Encoder
from harkback.features import FeatureRows, Features, join, none_of
from harkback.media import Media, MediaError, Picture, read
from harkback.store import FeatureStore
from harkback.workers import cores, team

SHARD = 64  #: clips a shard, and so the most that a kill can lose
BATCH = 8  #: clips that an encoder with a device is given at once
AHEAD = 4  #: clips a worker may be ahead of the writing
PRELOAD = ("harkback.extract", "harkback.encoders.signal", "harkback.pictures")  #: loaded once for all workers


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came of some clips. ``features`` row ``i`` belongs to ``clips[i]``."""

    clips: tuple[Clip, ...]
    keys: tuple[str, ...]  #: content of each clip; equal keys: the same bytes and window
    features: FeatureRows
    skips: tuple[Skip, ...]
    encoded: int  #: clips that had to be encoded now; the others were in the store
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a clip has no features."""

    reason: str
    lasting: bool  #: lies in the clip, so that trying again is of no use until its content changes


# Between processes go NumPy arrays: tensors would travel as file descriptors, of which there are only so many.
Parcel = tuple[Any, ...]
Outcome = Parcel | Failed


def extract(clips: Sequence[Clip], encoder: Encoder, root: Path, *, workers: int | None = None) -> Extraction:
    """Encode what the store does not have yet, and return the rows of all clips that could be read.

    workers: processes that decode (and encode, where the encoder needs no device); None: one a core; 0: this process.
    Stopped at any moment, it keeps all full shards, and on Ctrl-C the begun one too.
    """
    began = perf_counter()
    store = FeatureStore.open(root, encoder.spec)
    keys, unreadable = _keys(clips, store)
    todo = {key: clip for clip, key in keys if key not in store.places and key not in store.failures}
    with tqdm(total=len(todo), desc="encoding", unit="clip", leave=False, disable=not todo) as bar:
        passing = _fill(store, todo, encoder, cores() if workers is None else workers, bar)
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


def _keys(clips: Sequence[Clip], store: FeatureStore) -> tuple[list[tuple[Clip, str]], list[Skip]]:
    def key(clip: Clip) -> tuple[Clip, str] | Skip:
        try:
            return clip, store.key(clip)
        except OSError as error:
            return Skip(clip.id, clip.path, error.strerror or str(error))

    with ThreadPoolExecutor(min(8, cores() + 2)) as pool:
        found = list(tqdm(pool.map(key, clips), total=len(clips), desc="hashing", unit="clip", leave=False, delay=1))
    return [f for f in found if not isinstance(f, Skip)], [f for f in found if isinstance(f, Skip)]


def _fill(store: FeatureStore, todo: dict[str, Clip], encoder: Encoder, workers: int, bar: tqdm[Any]) -> dict[str, str]:
    """Write shards as they fill; returns the failures that are not the clip's own and will be tried again."""
    parts: list[Features] = []
    failures: dict[str, str] = {}
    passing: dict[str, str] = {}
    writes: deque[Future[None]] = deque()  #: at most one: the shard before the one that fills

    def flush(writer: ThreadPoolExecutor) -> None:
        """Written beside the work on the next shard: a device does not wait for the disk."""
        while writes:
            writes.popleft().result()
        writes.append(writer.submit(_write, store, tuple(parts), dict(failures)))
        parts.clear()
        failures.clear()

    with ThreadPoolExecutor(1) as writer:
        try:
            for key, outcome in _encoded(todo, encoder, workers):
                if isinstance(outcome, Failed):
                    (failures if outcome.lasting else passing)[key] = outcome.reason
                else:
                    parts.append(replace(outcome, ids=(key,)))
                if len(parts) + len(failures) >= SHARD:
                    flush(writer)
                bar.update()  # Last: what the bar has counted is kept, even if Ctrl-C comes now.
        finally:
            flush(writer)
            writes.popleft().result()
    return passing


def _write(store: FeatureStore, parts: Sequence[Features], failures: dict[str, str]) -> None:
    store.add(join(parts) if parts else none_of(store.spec.shape), failures)


def _encoded(todo: dict[str, Clip], encoder: Encoder, workers: int) -> Iterator[tuple[str, Features | Failed]]:
    """Each clip's features, or why there are none, in the order of ``todo`` whatever the number of workers."""
    spec = encoder.spec
    read_one = _Reading(
        spec.frames, spec.per_second, spec.sample_rate, encoder.picture, encoder if encoder.in_workers else None
    )
    outcomes = zip(todo, _in_order(read_one, list(todo.values()), workers), strict=True)
    if encoder.in_workers:
        for key, outcome in outcomes:
            yield key, outcome if isinstance(outcome, Failed) else _features(outcome)
        return
    while chunk := list(islice(outcomes, BATCH)):
        media = [_media(outcome) for _, outcome in chunk if not isinstance(outcome, Failed)]
        rows = iter(torch.arange(len(media)).split(1))
        features = encoder.encode(media) if media else none_of(spec.shape)
        for key, outcome in chunk:
            yield key, outcome if isinstance(outcome, Failed) else features[next(rows)]


@dataclass(frozen=True, slots=True)
class _Reading:
    """The work of one clip: decode, and encode too where that needs no device. Runs in a worker."""

    frames: int
    per_second: float
    sample_rate: int
    picture: Callable[[Picture], Picture] | None
    encoder: Encoder | None

    def __call__(self, clip: Clip) -> Outcome:
        try:
            return self._parcel(clip)
        except MediaError as error:
            return Failed(error.what if error.mend is None else f"{error.what}; {error.mend}", lasting=True)
        except Exception as error:  # A defect that one clip brings to light must not end a night's work.
            return Failed(f"encoding it failed with {type(error).__name__}: {error}; please report it", lasting=False)

    def _parcel(self, clip: Clip) -> Parcel:
        media = read(
            clip.path,
            frames=self.frames,
            per_second=self.per_second,
            sample_rate=self.sample_rate,
            start=clip.start,
            end=clip.end,
            picture=self.picture,
        )
        if self.encoder is None:
            sound, picture = (None if x is None else x.numpy() for x in (media.waveform, media.frames))
            return sound, media.sample_rate, picture, media.times.numpy(), media.duration
        f = self.encoder.encode([media])
        return f.ids, f.audio.numpy(), f.visual.numpy(), f.heard.numpy(), f.seen.numpy()


def _media(parcel: Parcel) -> Media:
    sound, rate, picture, times, duration = parcel
    waveform, frames = (None if x is None else torch.from_numpy(x) for x in (sound, picture))
    return Media(waveform, rate, frames, torch.from_numpy(times), duration)


def _features(parcel: Parcel) -> Features:
    ids, *arrays = parcel
    return Features(ids, *(torch.from_numpy(np.asarray(array)) for array in arrays))


def _in_order(work: Callable[[Clip], Outcome], clips: Sequence[Clip], workers: int) -> Iterator[Outcome]:
    """``work`` of every clip, in order; a clip that takes its worker process down is a failure of that clip alone."""
    if workers == 0:
        yield from map(work, clips)
        return
    waiting = deque(clips)
    while waiting:
        broken = False
        with team(workers, PRELOAD) as pool:
            running: deque[tuple[Clip, Future[Outcome]]] = deque()
            while (waiting or running) and not broken:
                try:
                    while waiting and len(running) < AHEAD * workers:
                        running.append((waiting[0], pool.submit(work, waiting[0])))
                        waiting.popleft()
                    outcome = running[0][1].result()
                    running.popleft()
                except BrokenProcessPool:
                    broken = True
                else:
                    yield outcome
        if broken:
            # It may have been any clip in flight. The first is tried alone; the others again, together.
            waiting.extendleft(reversed([clip for clip, _ in running]))
            yield _alone(work, waiting.popleft())


def _alone(work: Callable[[Clip], Outcome], clip: Clip) -> Outcome:
    with team(1, PRELOAD) as pool:
        try:
            return pool.submit(work, clip).result()
        except BrokenProcessPool:
            return Failed("decoding it crashed the decoder; convert the file to another format", lasting=False)
