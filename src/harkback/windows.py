"""A media file, cut into windows of equal length, each decoded as an encoder wants it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

import torch

from harkback._container import AGAIN, BROKEN, reason, survey
from harkback.clips import Clip
from harkback.encoders import BATCH, Encoder
from harkback.encoding import encoded_each
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.media import Media, MediaError, NothingInside, NotMedia, TooLarge, Truncated, ZeroLength, read
from harkback.places import at_hand

SHORTEST = 0.1  #: seconds; below it there is no sound to speak of
STRETCH = 300.0  #: seconds of a file without pictures that are decoded at once

Window = tuple[float, float]  #: begin and end, seconds from the beginning of the file


def length_of(path: Path) -> float:
    """Seconds that a media file lasts: its sound or its picture, whichever ends later; a still image one frame.

    Raises `MediaError`.
    """
    try:
        _, _, begin, finish = survey(path)
    except MemoryError:
        raise TooLarge("does not fit in memory", where=path, mend="take a part of it") from None
    except BROKEN as error:
        raise NotMedia(f"cannot be decoded ({reason(error)})", where=path, mend=AGAIN) from error
    return finish - begin


def check_length(path: Path, length: float, longest: float | None) -> None:
    """Raise `MediaError` if a file lasts longer than may be; None: it may last as long as it will."""
    if longest is not None and length > longest:
        what = f"lasts {length:.0f} s, and {longest:g} s are the most"
        raise MediaError(what, where=path, mend="take a part of it")


def windows(duration: float, length: float) -> list[Window]:
    """Equal windows that cover ``duration`` seconds exactly, as near to ``length`` seconds each as can be.

    A file shorter than 1.5 lengths is one window. `HarkbackError` where windows would be too short to hear anything in.
    """
    if not length > 0 or (length < SHORTEST and duration >= 1.5 * length):  # so written, a NaN fails too
        raise HarkbackError(f"windows cannot last {length:g} s", mend=f"take {SHORTEST:g} s or more")
    count = max(1, round(duration / length))
    edges = [duration * k / count for k in range(count)] + [duration]
    return list(pairwise(edges))


def cut(path: Path, window: float | None, encoder: Encoder) -> Iterator[list[Window] | Media | Features | MediaError]:
    """The windows of a file, then what each holds: encoded, where that needs no device. For `apart.apart`.

    window: seconds of each; None: the whole file is one. Raises `MediaError` for a file that cannot be read.
    """
    length = length_of(path)
    spans = [(0.0, length)] if window is None else windows(length, window)
    yield spans
    for media in decoded(path, spans, encoder):
        found = encoded_each(encoder, [media])[0] if encoder.in_workers and isinstance(media, Media) else media
        yield MediaError(found, where=path) if isinstance(found, str) else found


def lengths(clips: Sequence[Clip]) -> Iterator[float]:
    """Seconds that each of these clips lasts, without those that cannot be read. For `apart.apart`."""
    for clip in clips:
        try:
            if clip.end is None:
                with at_hand(clip.path) as path:
                    yield length_of(path) - clip.start
            else:
                yield clip.end - clip.start
        except (MediaError, OSError):
            continue


def decoded(path: Path, spans: Sequence[Window], encoder: Encoder) -> Iterator[Media | MediaError]:
    """Each window as the encoder wants it, or why nothing can be had from it; one or a few minutes are held at a time.

    What is the same for every window, such as too little memory, is raised.
    """
    first = 0
    while first < len(spans):
        media = _alone(path, spans[first], encoder)
        yield media
        first += 1
        if isinstance(media, Media) and media.frames is None:
            break  # There is no picture in this file.
    while first < len(spans):
        last = first
        while last + 1 < len(spans) and spans[last + 1][1] - spans[first][0] <= STRETCH:
            last += 1
        yield from _together(path, spans[first : last + 1], encoder)
        first = last + 1


def encoded(
    found: Iterable[tuple[Window, Media | Features | MediaError]], encoder: Encoder
) -> Iterator[tuple[Window, Features | MediaError]]:
    """Windows of `decoded`, each as the one row of some features; what is encoded already is passed on."""
    rest = iter(found)
    # Without a device nothing is gained by holding several windows, whose pictures may be large.
    while chunk := list(islice(rest, 1 if encoder.in_workers else BATCH)):
        rows = iter(encoded_each(encoder, [clip for _, clip in chunk if isinstance(clip, Media)]))
        for span, clip in chunk:
            row = next(rows) if isinstance(clip, Media) else clip
            yield span, MediaError(row) if isinstance(row, str) else row


def _alone(path: Path, span: Window, encoder: Encoder) -> Media | MediaError:
    spec = encoder.spec
    try:
        media = read(
            path,
            frames=spec.frames,
            per_second=spec.per_second,
            sample_rate=spec.sample_rate,
            start=span[0],
            end=span[1],
            picture=encoder.picture,
        )
    except (NotMedia, NothingInside, Truncated, ZeroLength) as error:
        return error
    if media.waveform is None and media.frames is None:
        what = f"holds no sound between {span[0]:.2f} s and {span[1]:.2f} s"
        return NothingInside(what, where=path, mend="choose another window")
    return media


def _together(path: Path, spans: Sequence[Window], encoder: Encoder) -> Iterator[Media | MediaError]:
    """Neighbouring windows of a file without pictures.

    Decoded at once: in an mp3 a time is only found by decoding all that comes before it, and for each of a long
    recording's windows anew that would take hours.
    """
    spec, begin = encoder.spec, spans[0][0]
    whole = _alone(path, (begin, spans[-1][1]), encoder)
    waveform = whole.waveform if isinstance(whole, Media) else None
    for start, end in spans:
        first, count = round((start - begin) * spec.sample_rate), round((end - start) * spec.sample_rate)
        part = None if waveform is None else waveform[:, first : first + count]
        if part is None or not part.any():  # Silence, or no sound at all? Alone, the window tells.
            yield _alone(path, (start, end), encoder)
        else:
            times = (torch.arange(spec.frames) + 0.5) * (end - start) / spec.frames
            yield Media(part.clone(), spec.sample_rate, None, times, end - start)
