"""A media file -> sound and pictures, through PyAV (FFmpeg).

A file is read in three passes: what is inside and how long it really lasts (`harkback._container`), the pictures, the
sound. Each opens the file anew and so inherits no state; a jump to a far place is a new pass too. Times are in seconds:
inside this module on the file's own clock, which need not begin at 0; in `Media` from the start of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor

from harkback._container import (
    AGAIN,
    BROKEN,
    FAR,
    SLACK,
    Frame,
    Track,
    reason,
    survey,
)
from harkback._unreadable import MediaError, NothingInside, NotMedia, TooLarge, Truncated, Unreachable, ZeroLength

__all__ = [
    "Media",
    "MediaError",
    "NotMedia",
    "NothingInside",
    "Picture",
    "TooLarge",
    "Truncated",
    "Unreachable",
    "ZeroLength",
    "read",
]

_WARM = 0.5  # seconds of sound decoded around a window, so that codec and resampler are settled inside it
_LONGEST = 6 * 3600.0  # seconds of sound that are held at once
_MOST = 4096  # pictures that are held at once

Picture = NDArray[np.uint8]  #: (height, width, 3) RGB


@dataclass(frozen=True, slots=True)
class Media:
    """What was decoded from one clip."""

    waveform: Tensor | None  #: (channels, samples) float32 in [-1, 1]; None: the clip has no sound
    sample_rate: int  #: Hz
    frames: Tensor | None  #: (frames, height, width, 3) uint8 RGB; None: the clip has no picture
    times: Tensor  #: (frames,) seconds from the start of the clip
    duration: float  #: seconds that the clip lasts


def read(
    path: Path,
    *,
    frames: int,
    sample_rate: int,
    start: float = 0.0,
    end: float | None = None,
    per_second: float = 0.0,
    picture: Callable[[Picture], Picture] | None = None,
) -> Media:
    """Decode a clip: ``frames`` pictures, evenly spread in time, and the sound as mono at ``sample_rate`` Hz.

    per_second: how many pictures a second of the clip is to have, if that makes more; their number stays a multiple of
    ``frames``. picture: what is done to each, (height, width, 3) -> the same size for all, as soon as it is decoded.

    The clip is ``start`` to ``end`` in seconds from the beginning of the file (None, or past it: to the end). Picture k
    is the one on show at ``(k + 0.5) / frames`` of the clip, whatever the frame rate; it repeats where the clip has
    fewer, and it is upright. ``waveform`` is (1, round(duration * sample_rate)), zero where the track is silent or has
    not begun; None where the window holds no sound at all. It is the plain mean of all channels, whatever they are
    called: what only the centre of a 5.1 track plays comes out at a sixth. A still image is a clip of one nominal
    frame; cover art is no picture.

    Raises `NotMedia` (`Unreachable` where the file cannot be read now), `Truncated`, `NothingInside`, `ZeroLength`, or
    `TooLarge` where memory does not suffice.
    One core is used, and how many there are changes nothing.
    """
    if frames < 1 or sample_rate < 1:
        raise ValueError(f"frames and sample_rate must be positive, not {frames} and {sample_rate}")
    try:
        return _read(path, frames, per_second, picture or _as_it_is, sample_rate, start, end)
    except MemoryError:
        raise TooLarge("does not fit in memory", where=path, mend="take a shorter window") from None
    except BROKEN as error:
        raise NotMedia(f"cannot be decoded ({reason(error)})", where=path, mend=AGAIN) from error


def _read(
    path: Path,
    frames: int,
    per_second: float,
    picture: Callable[[Picture], Picture],
    sample_rate: int,
    start: float,
    end: float | None,
) -> Media:
    film, sound, begin, finish = survey(path)
    length = finish - begin
    stop = length if end is None else min(end, length)
    duration = stop - start
    if not (start >= 0 and duration * sample_rate >= 1):  # so written, a NaN fails too
        what = f"nothing lies between {start:g} s and {'the end' if end is None else f'{end:g} s'}"
        raise ZeroLength(what, where=path, mend=f"choose a window inside 0 s to {length:.3f} s")
    if sound is not None and duration > _LONGEST:
        raise MediaError(f"lasts {duration / 3600:.0f} hours", where=path, mend="take shorter windows of it")

    frames *= max(1, math.ceil(duration * per_second / frames))
    if film is not None and frames > _MOST:
        what = f"has {frames} pictures at {per_second:g} a second"
        raise MediaError(what, where=path, mend="take shorter windows of it, or fewer pictures a second")
    times = [(k + 0.5) * duration / frames for k in range(frames)]
    images = None if film is None else _pictures(film, [begin + start + time for time in times], picture)
    waveform = None if sound is None else _sound(sound, begin + start, begin + stop, sample_rate)
    return Media(
        waveform=None if waveform is None else torch.from_numpy(waveform)[None],
        sample_rate=sample_rate,
        frames=None if images is None else torch.from_numpy(images),
        times=torch.tensor(times),
        duration=duration,
    )


# ---- the pictures ---------------------------------------------------------------------------------------------------


def _pictures(track: Track, wanted: list[float], change: Callable[[Picture], Picture]) -> NDArray[np.uint8]:
    """(frames, height, width, 3) RGB: the pictures on show at ``wanted``, ascending seconds, changed."""
    frames = track.frames_from(wanted[0])
    shown = upcoming = next(frames, None)
    size: tuple[int, ...] | None = None
    images: NDArray[np.uint8] | None = None
    drawn, far = None, FAR
    for k, time in enumerate(wanted):
        if shown is not None and upcoming is not None and time - upcoming[0] > far:
            frames = track.frames_from(time)
            upcoming = next(frames, None)
            if upcoming is None or upcoming[0] <= shown[0]:
                far = math.inf  # key frames are too rare for jumps to pay
        while upcoming is not None and upcoming[0] <= time + 1e-6:
            shown, upcoming = upcoming, next(frames, None)
        if shown is None:
            break
        if shown is drawn and images is not None:
            images[k] = images[k - 1]
            continue
        upright = _upright(shown[1], size)
        size = upright.shape[:2]
        image = change(upright)
        if images is None:
            images = np.empty((len(wanted), *image.shape), np.uint8)
        images[k], drawn = image, shown
    track.check(None if shown is None else math.inf if upcoming else shown[0], wanted[-1])
    assert images is not None  # else check() has raised
    return images


def _as_it_is(picture: Picture) -> Picture:
    return picture


def _upright(frame: Frame, size: tuple[int, ...] | None) -> Picture:
    """(height, width, 3) RGB, turned and mirrored as the file asks; scaled to ``size`` (height, width) if given."""
    assert isinstance(frame, VideoFrame)
    (a, b), (c, d) = _display_matrix(frame)  # the point (x, y) is shown at (a x + c y, b x + d y)
    sideways = abs(b) > abs(a)
    height, width = size[:: -1 if sideways else 1] if size else (frame.height, frame.width)
    image = np.asarray(frame.to_ndarray(format="rgb24", width=width, height=height, threads=1), np.uint8)
    if sideways:
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _display_matrix(frame: VideoFrame) -> list[list[int]]:
    try:
        numbers = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)  # type: ignore[typeddict-item]
    except (KeyError, ValueError):  # there is none, or there is side data of a kind that PyAV does not know
        return [[1, 0], [0, 1]]
    matrix: list[list[int]] = numbers.reshape(3, 3)[:2, :2].tolist()
    return matrix


# ---- the sound ------------------------------------------------------------------------------------------------------


def _sound(track: Track, start: float, stop: float, sample_rate: int) -> NDArray[np.float32] | None:
    """(samples,) in [-1, 1] at ``sample_rate``, sample 0 at ``start``; None if no sound lies in the window."""
    out = np.zeros(round((stop - start) * sample_rate), np.float32)
    heard = False
    for at, rate, samples in _runs(track, start, stop):
        # Begin where an input sample and an output sample coincide, so that resampling shifts nothing.
        lead = at % min(rate // math.gcd(rate, sample_rate), 1 << 20)  # less than a second, unless the rate is absurd
        samples = np.pad(samples, (lead, 0))
        resampled = _resample(samples, rate, sample_rate)[-(-lead * sample_rate // rate) :]
        place = -(-at * sample_rate // rate)
        part = resampled[max(0, -place) : max(0, len(out) - place)]
        out[max(0, place) :][: len(part)] = part
        heard = heard or len(part) > 0
    return np.clip(out, -1, 1, out=out) if heard else None


def _runs(track: Track, start: float, stop: float) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Stretches of sound without a gap: (first sample, counted from ``start``; Hz; mono samples)."""
    chunks: list[NDArray[np.float32]] = []
    offsets: list[float] = []  # where each frame says that the run began; the mean undoes the container's rounding
    rate = count = 0
    reached: float | None = None
    for time, frame in track.frames_from(start - _WARM):
        assert isinstance(frame, AudioFrame)
        reached = time + frame.samples / frame.sample_rate
        if reached < start - _WARM:
            continue
        if time > stop + _WARM:
            reached = math.inf
            break
        offset = (time - start) * frame.sample_rate - count
        if chunks and (frame.sample_rate != rate or abs(offset - offsets[0]) > SLACK * rate):
            yield round(sum(offsets) / len(offsets)), rate, _joined(chunks)
            offset += count
            chunks, offsets, count = [], [], 0
        rate = frame.sample_rate
        chunks.append(_mono(frame))
        offsets.append(offset)
        count += frame.samples
    if chunks:
        yield round(sum(offsets) / len(offsets)), rate, _joined(chunks)
    track.check(reached, stop)


def _joined(chunks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The chunks in one array, and the list emptied: a long sound is not held twice while it is resampled."""
    joined = np.concatenate(chunks)
    chunks.clear()
    return joined


def _mono(frame: AudioFrame) -> NDArray[np.float32]:
    """(samples,) in [-1, 1]: the mean of the channels, whatever they are called."""
    samples = frame.to_ndarray()  # (channels, samples), or (1, samples * channels) when packed
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mean = samples.mean(axis=0, dtype=np.float64)
    if samples.dtype.kind in "iu":
        mean = mean / 2.0 ** (8 * samples.dtype.itemsize - 1) - (samples.dtype.kind == "u")
    mono: NDArray[np.float32] = np.clip(np.nan_to_num(mean), -1, 1).astype(np.float32)
    return mono


def _resample(samples: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
    """(samples,) at ``source`` Hz -> at ``target`` Hz, by libswresample; sample 0 stays sample 0."""
    if source == target:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=target)
    pieces: list[AudioFrame] = []
    for at in range(0, len(samples), 1 << 16):
        piece = AudioFrame.from_ndarray(samples[None, at : at + (1 << 16)], format="flt", layout="mono")
        piece.sample_rate = source
        pieces += resampler.resample(piece)
    pieces += resampler.resample(None)
    return np.concatenate([np.asarray(piece.to_ndarray()[0], np.float32) for piece in pieces])
