"""A clip's file -> its media or its features, in whatever process; what a file does to its process stays there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from harkback.clips import Clip
from harkback.confined import DECODING, Broken, Confined, Limits, Say, allow, limit
from harkback.encoders import BATCH, Encoder, bare
from harkback.encoding import STARVED, encoded_each
from harkback.errors import starved
from harkback.features import Features
from harkback.media import Media, MediaError, read
from harkback.parcels import Parcel, packed, unpacked
from harkback.places import at_hand
from harkback.team import Lost, team
from harkback.windows import check_length, length_of
from harkback.workers import READERS

AHEAD = 4  #: clips a worker may be ahead of whoever takes the outcomes


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a clip has no features."""

    reason: str
    lasting: bool  #: lies in the clip, so that trying again is of no use until its content changes


Outcome = Parcel | Failed
Work = Callable[[Clip], Outcome]


def encoded(
    todo: Mapping[str, Clip], encoder: Encoder, workers: int, limits: Limits | None = None
) -> Iterator[tuple[str, Features | Failed]]:
    """Each clip's features, or why there are none, in the order of ``todo`` whatever the number of workers."""
    return featured(decoded(todo, encoder, workers, limits), encoder)


def decoded(
    todo: Mapping[str, Clip], encoder: Encoder, workers: int, limits: Limits | None = None
) -> Iterator[tuple[str, Outcome]]:
    """What `featured` is made of: media, or features already where the encoder needs no device; in order."""
    reading = Reading(bare(encoder), None if limits is None else limits.length)
    return zip(todo, in_order(reading, list(todo.values()), workers, limits), strict=True)


def featured(outcomes: Iterator[tuple[str, Outcome]], encoder: Encoder) -> Iterator[tuple[str, Features | Failed]]:
    """The features of what was decoded, a clip each."""
    if encoder.in_workers:
        for key, outcome in outcomes:
            yield key, outcome if isinstance(outcome, Failed) else _features(outcome)
        return
    while chunk := list(islice(outcomes, BATCH)):
        found = iter(encoded_each(encoder, [_media(each) for _, each in chunk if not isinstance(each, Failed)]))
        for key, outcome in chunk:
            row = outcome if isinstance(outcome, Failed) else next(found)
            yield key, Failed(row, lasting=False) if isinstance(row, str) else row


@dataclass(frozen=True, slots=True)
class Reading:
    """The work of one clip: decode, and encode too where that needs no device. Runs in a worker."""

    encoder: Encoder
    longest: float | None = None  #: seconds that a file may last

    def __call__(self, clip: Clip) -> Outcome:
        try:
            with at_hand(clip.path) as path:
                path.stat()
                return self._parcel(clip, path)
        except MediaError as error:
            return Failed(error.what if error.mend is None else f"{error.what}; {error.mend}", lasting=error.lasting)
        except OSError as error:  # Its file is not to be had, which says nothing about what it holds.
            return Failed(error.strerror or str(error), lasting=False)
        except Exception as error:
            if starved(error):
                return Failed(STARVED, lasting=False)
            # A defect that one clip brings to light must not end a night's work.
            return Failed(f"encoding it failed with {type(error).__name__}: {error}; please report it", lasting=False)

    def _parcel(self, clip: Clip, path: Path) -> Outcome:
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
        if not self.encoder.in_workers:
            return packed(media)
        (row,) = encoded_each(self.encoder, [media])
        return Failed(row, lasting=False) if isinstance(row, str) else packed(row)


def _media(parcel: Parcel) -> Media:
    media = unpacked(parcel)
    assert isinstance(media, Media)
    return media


def _features(parcel: Parcel) -> Features:
    features = unpacked(parcel)
    assert isinstance(features, Features)
    return features


def in_order(work: Work, clips: Sequence[Clip], workers: int, limits: Limits | None = None) -> Iterator[Outcome]:
    """``work`` of every clip, in order; a clip that takes its worker process down is a failure of that clip alone.

    workers: processes; each of their clips may take what `DECODING` says. 0: this process, which a crash takes along.
    limits: a process for each clip, which may take so much.
    """
    if limits is not None:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            yield from _ahead(partial(pool.submit, partial(_within, work, limits)), clips, max(1, workers))
        return
    if workers == 0:
        yield from map(work, clips)
        return
    with team(workers, READERS, then=limit, given=DECODING.memory) as readers:
        yield from _ahead(partial(readers.submit, _allowed, work, DECODING.computing), clips, workers)


def _ahead(begin: Callable[[Clip], Future[Outcome]], clips: Sequence[Clip], workers: int) -> Iterator[Outcome]:
    """What each clip comes to, in order; no more than a few are begun ahead of whoever takes the outcomes."""
    running: deque[tuple[Clip, Future[Outcome]]] = deque()
    waiting = iter(clips)
    try:
        while True:
            for clip in islice(waiting, AHEAD * workers - len(running)):
                running.append((clip, begin(clip)))
            if not running:
                return
            clip, future = running.popleft()
            try:
                outcome = future.result()
            except Lost:
                # Others may have taken the memory that it lacked.
                wait([other for _, other in running])
                outcome = _again(begin, clip)
            yield outcome
    finally:
        for _, each in running:
            each.cancel()


def _again(begin: Callable[[Clip], Future[Outcome]], clip: Clip) -> Outcome:
    try:
        return begin(clip).result()
    except Lost:
        return Failed("decoding it crashed the decoder; convert the file to another format", lasting=False)


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


def _allowed(work: Work, seconds: int | None, clip: Clip) -> Outcome:
    """``work`` of a clip in a worker, which must not compute on for ever."""
    if seconds is not None:
        allow(seconds)
    return work(clip)
