"""Clips -> features in a store: decoding on all cores, resumable, and honest about what failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from harkback.clips import Clip, Skip
from harkback.confined import Broken, Confined, Limits, Say
from harkback.encoders import BATCH, Encoder, bare
from harkback.features import FeatureRows, Features, join, none_of
from harkback.media import Media, MediaError, read
from harkback.parcels import Parcel, packed, unpacked
from harkback.places import at_hand
from harkback.store import FeatureStore
from harkback.windows import check_length, length_of
from harkback.workers import cores, team

SHARD = 64  #: clips a shard, and so the most that a kill can lose
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


Outcome = Parcel | Failed
Work = Callable[[Clip], Outcome]


def extract(
    clips: Sequence[Clip],
    encoder: Encoder,
    root: Path,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    tell: Callable[[Clip], None] = lambda _: None,
) -> Extraction:
    """Encode what the store does not have yet, and return the rows of all clips that could be read.

    workers: processes that decode (and encode, where the encoder needs no device); None: one a core; 0: this process.
    limits: of each clip's reading, which then has a process of its own; for clips from strangers. tell: is told of each
    clip that has been tried. Stopped at any moment, it keeps all full shards, and on Ctrl-C the begun one too.
    """
    began = perf_counter()
    store = FeatureStore.open(root, encoder.spec)
    keys, unreadable = _keys(clips, store)
    todo = {key: clip for clip, key in keys if key not in store.places and key not in store.failures}
    with tqdm(total=len(todo), desc="encoding", unit="clip", leave=False, disable=not todo) as bar:
        outcomes = _encoded(todo, encoder, cores() if workers is None else workers, limits)

        def kept(key: str) -> None:
            bar.update()
            tell(todo[key])

        passing = _fill(store, outcomes, kept)
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


def _fill(
    store: FeatureStore, outcomes: Iterator[tuple[str, Features | Failed]], kept: Callable[[str], None]
) -> dict[str, str]:
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
            for key, outcome in outcomes:
                if isinstance(outcome, Failed):
                    (failures if outcome.lasting else passing)[key] = outcome.reason
                else:
                    parts.append(replace(outcome, ids=(key,)))
                if len(parts) + len(failures) >= SHARD:
                    flush(writer)
                kept(key)  # Last: what was counted is kept, even if Ctrl-C comes now.
        finally:
            flush(writer)
            writes.popleft().result()
    return passing


def _write(store: FeatureStore, parts: Sequence[Features], failures: dict[str, str]) -> None:
    store.add(join(parts) if parts else none_of(store.spec.shape), failures)


def _encoded(
    todo: dict[str, Clip], encoder: Encoder, workers: int, limits: Limits | None
) -> Iterator[tuple[str, Features | Failed]]:
    """Each clip's features, or why there are none, in the order of ``todo`` whatever the number of workers."""
    reading = Reading(bare(encoder), None if limits is None else limits.length)
    outcomes = zip(todo, _in_order(reading, list(todo.values()), workers, limits), strict=True)
    if encoder.in_workers:
        for key, outcome in outcomes:
            yield key, outcome if isinstance(outcome, Failed) else _features(outcome)
        return
    while chunk := list(islice(outcomes, BATCH)):
        media = [_media(outcome) for _, outcome in chunk if not isinstance(outcome, Failed)]
        rows = iter(torch.arange(len(media)).split(1))
        features = encoder.encode(media) if media else none_of(encoder.spec.shape)
        for key, outcome in chunk:
            yield key, outcome if isinstance(outcome, Failed) else features[next(rows)]


@dataclass(frozen=True, slots=True)
class Reading:
    """The work of one clip: decode, and encode too where that needs no device. Runs in a worker."""

    encoder: Encoder
    longest: float | None = None  #: seconds that a file may last

    def __call__(self, clip: Clip) -> Outcome:
        try:
            with at_hand(clip.path) as path:
                return self._parcel(clip, path)
        except MediaError as error:
            return Failed(error.what if error.mend is None else f"{error.what}; {error.mend}", lasting=True)
        except OSError as error:  # A place that cannot be reached now, or a file that is gone since.
            return Failed(error.strerror or str(error), lasting=False)
        except Exception as error:  # A defect that one clip brings to light must not end a night's work.
            return Failed(f"encoding it failed with {type(error).__name__}: {error}; please report it", lasting=False)

    def _parcel(self, clip: Clip, path: Path) -> Parcel:
        spec = self.encoder.spec
        if self.longest is not None:
            check_length(path, length_of(path), self.longest)
        media = read(
            path,
            frames=spec.frames,
            per_second=spec.per_second,
            sample_rate=spec.sample_rate,
            start=clip.start,
            end=clip.end,
            picture=self.encoder.picture,
        )
        return packed(self.encoder.encode([media]) if self.encoder.in_workers else media)


def _media(parcel: Parcel) -> Media:
    media = unpacked(parcel)
    assert isinstance(media, Media)
    return media


def _features(parcel: Parcel) -> Features:
    features = unpacked(parcel)
    assert isinstance(features, Features)
    return features


def _in_order(work: Work, clips: Sequence[Clip], workers: int, limits: Limits | None = None) -> Iterator[Outcome]:
    """``work`` of every clip, in order; a clip that takes its worker process down is a failure of that clip alone."""
    if limits is not None:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            yield from _ahead(partial(_within, work, limits), clips, pool, max(1, workers))
        return
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


def _ahead(work: Work, clips: Sequence[Clip], pool: ThreadPoolExecutor, workers: int) -> Iterator[Outcome]:
    """As ``pool.map``, but no more than a few clips ahead of whoever takes the outcomes."""
    running: deque[Future[Outcome]] = deque()
    try:
        for clip in clips:
            if len(running) >= AHEAD * workers:
                yield running.popleft().result()
            running.append(pool.submit(work, clip))
        while running:
            yield running.popleft().result()
    finally:
        for each in running:
            each.cancel()


def _within(work: Work, limits: Limits, clip: Clip) -> Outcome:
    """``work`` of a clip in a process of its own."""
    try:
        with Confined(_said, work, clip, limits=limits) as running:
            (facts, arrays), *_ = running
    except Broken as error:
        return Failed(f"{error.what}; {error.mend}", lasting=False)
    return Failed(**facts["failed"]) if "failed" in facts else (facts, arrays)


def _said(say: Say, work: Work, clip: Clip) -> None:
    outcome = work(clip)
    say(({"failed": asdict(outcome)}, {}) if isinstance(outcome, Failed) else outcome)


def _alone(work: Work, clip: Clip) -> Outcome:
    with team(1, PRELOAD) as pool:
        try:
            return pool.submit(work, clip).result()
        except BrokenProcessPool:
            return Failed("decoding it crashed the decoder; convert the file to another format", lasting=False)
