"""A media file -> sound and pictures, through PyAV (FFmpeg).

A file is read in three passes: what is inside and how long it really lasts, the pictures, the sound. Each opens the
file anew and so inherits no state; a jump to a far place is a new pass too. Times are in seconds: inside this module on
the file's own clock, which need not begin at 0; in `Media` from the start of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from harkback.errors import HarkbackError


@dataclass(frozen=True, slots=True)
class Media:
    """What was decoded from one clip."""

    waveform: Tensor | None  #: (channels, samples) float32 in [-1, 1]; None: the clip has no sound
    sample_rate: int  #: Hz
    frames: Tensor | None  #: (frames, height, width, 3) uint8 RGB; None: the clip has no picture
    times: Tensor  #: (frames,) seconds from the start of the clip
    duration: float  #: seconds that the clip lasts


class MediaError(HarkbackError):
    """No clip can be had from this file."""


class NotMedia(MediaError):
    """The file cannot be opened, or FFmpeg does not know what it is."""


class Truncated(MediaError):
    """The file stops before it said it would, or most of it does not decode."""


class NothingInside(MediaError):
    """The file holds neither a picture nor a sound that can be decoded."""


class ZeroLength(MediaError):
    """The window holds no time: it is empty, reversed, or lies outside the file."""


_FAR = 10.0  # seconds: up to here, decoding on is cheaper than a jump and the frames from its key frame
_WARM = 0.5  # seconds of sound decoded around a window, so that codec and resampler are settled inside it
_SLACK = 0.05  # seconds that timestamps of sound may wander (containers round them) before they mean a gap
_LONGEST = 6 * 3600.0  # seconds of sound that are held at once
_PIXELS = 1 << 26  # in one picture; 8K has half of it, a corrupt header asks for any number

#: How containers begin whose table of contents may be missing: (offset, bytes).
_BEGINNINGS = ((4, b"ftyp"), (4, b"moov"), (0, b"RIFF"), (0, b"\x1aE\xdf\xa3"), (0, b"OggS"), (0, b"fLaC"), (0, b"FLV"))

#: Formats without a header: FFmpeg guesses their duration from the bit rate, and finding a time means reading up to it.
_HEADERLESS = {"aac", "ac3", "amr", "dts", "eac3", "h264", "hevc", "m4v", "mjpeg", "mp3", "mpegvideo", "obu"}

_BROKEN = (FFmpegError, ValueError, ArithmeticError, EOFError, OSError)  # what PyAV raises over bad bytes
_AGAIN = "fetch or export the file again"

_Frame = VideoFrame | AudioFrame


def read(path: Path, *, frames: int, sample_rate: int, start: float = 0.0, end: float | None = None) -> Media:
    """Decode a clip: ``frames`` pictures, evenly spread in time, and the sound as mono at ``sample_rate`` Hz.

    The clip is ``start`` to ``end`` in seconds from the beginning of the file (None, or past it: to the end). Picture k
    is the one on show at ``(k + 0.5) / frames`` of the clip, whatever the frame rate; it repeats where the clip has
    fewer, and it is upright. ``waveform`` is (1, round(duration * sample_rate)), the mean of the channels, zero where
    the track is silent or has not begun; None where the window holds no sound at all. A still image is a clip of one
    nominal frame; cover art is no picture.

    Raises `NotMedia`, `Truncated`, `NothingInside`, `ZeroLength`, or `MediaError` itself where memory does not suffice.
    One core is used, and how many there are changes nothing.
    """
    if frames < 1 or sample_rate < 1:
        raise ValueError(f"frames and sample_rate must be positive, not {frames} and {sample_rate}")
    try:
        return _read(path, frames, sample_rate, start, end)
    except MemoryError:
        raise MediaError("does not fit in memory", where=path, mend="take a shorter window") from None
    except _BROKEN as error:
        raise NotMedia(f"cannot be decoded ({_reason(error)})", where=path, mend=_AGAIN) from error


def _read(path: Path, frames: int, sample_rate: int, start: float, end: float | None) -> Media:
    picture, sound, begin, finish = _survey(path)
    length = finish - begin
    stop = length if end is None else min(end, length)
    duration = stop - start
    if not (start >= 0 and duration * sample_rate >= 1):  # so written, a NaN fails too
        what = f"nothing lies between {start:g} s and {'the end' if end is None else f'{end:g} s'}"
        raise ZeroLength(what, where=path, mend=f"choose a window inside 0 s to {length:.3f} s")
    if sound is not None and duration > _LONGEST:
        raise MediaError(f"lasts {duration / 3600:.0f} hours", where=path, mend="take shorter windows of it")

    times = [(k + 0.5) * duration / frames for k in range(frames)]
    images = None if picture is None else _pictures(picture, [begin + start + time for time in times])
    waveform = None if sound is None else _sound(sound, begin + start, begin + stop, sample_rate)
    return Media(
        waveform=None if waveform is None else torch.from_numpy(waveform)[None],
        sample_rate=sample_rate,
        frames=None if images is None else torch.from_numpy(images),
        times=torch.tensor(times),
        duration=duration,
    )


# ---- the file -------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The file, from a Python stream: its name is never taken for a pattern, a protocol or a device."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise NotMedia("is not a file", where=path, mend="name a media file")
        file = path.open("rb")
    except OSError as error:
        mend = "check its name and permissions"
        raise NotMedia(f"cannot be opened ({_reason(error)})", where=path, mend=mend) from None
    with file:
        head = file.read(16)
        size = file.seek(0, 2)
        file.seek(0)
        known = any(head[at:].startswith(mark) for at, mark in _BEGINNINGS)
        # RIFF (.wav, .avi) states its size, and FFmpeg makes do with less. Near 2 GiB and beyond it means "unknown".
        stated = int.from_bytes(head[4:8], "little") if head.startswith(b"RIFF") else 0
        if size < 0.95 * stated and stated < 0x7FFF0000:
            raise Truncated(f"holds {size} bytes of {stated}", where=path, mend=_AGAIN)
        # A playlist may not make this process open other files or hosts.
        limits = {"protocol_whitelist": "none", "max_pixels": str(_PIXELS)}
        try:
            container = av.open(file, mode="r", options=limits, metadata_errors="replace")
        except _BROKEN as error:
            if known:
                raise Truncated("its table of contents is missing", where=path, mend=_AGAIN) from error
            what = f"is no media file that FFmpeg knows ({_reason(error)})" if head else "is empty"
            raise NotMedia(what, where=path, mend="remove it, or convert it to mp4 or wav") from error
        with container:
            if known and not len(container.streams):
                raise Truncated("its table of contents is missing", where=path, mend=_AGAIN)
            if container.format.name == "tty":  # FFmpeg films a .txt file on a terminal
                raise NotMedia("is a text file", where=path, mend="remove it")
            yield container


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Stream]]:
    """The packets up to the end, or to where the file cannot be read any more."""
    try:
        yield from container.demux(streams)
    except _BROKEN:
        return


def _seek(container: InputContainer, time: float) -> bool:
    """Go to the last key frame before ``time``; whether the container can."""
    try:
        container.seek(int(time * av.time_base))
    except _BROKEN:
        return False
    return True


def _seconds(stamp: int | None, base: Fraction | None) -> float | None:
    return None if stamp is None or base is None else stamp * base.numerator / base.denominator


# ---- one stream -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Track:
    """One stream of a file, and how its decoding went."""

    path: Path
    index: int
    begin: float  #: seconds; where the time of the clip begins
    last: float  #: seconds; when the last packet is due
    tolerance: float  #: seconds
    seeks: bool
    good: int = field(default=0, init=False)  #: packets that decoded
    bad: int = field(default=0, init=False)  #: packets that did not

    def frames_from(self, time: float) -> Iterator[tuple[float, _Frame]]:
        """Frames with their times; the first is not after ``time``, unless the stream begins later."""
        if self.seeks and time - self.begin > _FAR:
            # Without an index a container may land late, behind the key frame: try once more from well before.
            for since in (time, time - _FAR / 2):
                frames = self._frames(since)
                first = next(frames, None)
                if first is not None and first[0] <= time:
                    return chain([first], frames)
        return self._frames(None)

    def _frames(self, since: float | None) -> Iterator[tuple[float, _Frame]]:
        with _opened(self.path) as container:
            stream = container.streams[self.index]
            # PyAV would take every core for each of the processes that decode clips.
            stream.codec_context.options = {"threads": "1", "max_pixels": str(_PIXELS)}
            if since is not None and not _seek(container, since):
                return
            # Frames without timestamps follow each other at the nominal rate; after a seek that needs a known one.
            clock = self.begin if since is None else None
            nominal = _nominal(stream)
            for packet in _packets(container, stream):
                for frame in self._decoded(stream, packet):
                    stamp = _seconds(frame.pts, frame.time_base)
                    time = clock if stamp is None else stamp
                    if time is not None:
                        yield time, frame
                        clock = time + (frame.samples / frame.sample_rate if isinstance(frame, AudioFrame) else nominal)

    def _decoded(self, stream: Stream, packet: Packet[Stream]) -> Sequence[_Frame]:
        assert isinstance(stream, VideoStream | AudioStream)
        try:
            frames = stream.decode(packet)
        except _BROKEN:
            self.bad += packet.size > 0
            return ()
        self.good += packet.size > 0
        return frames

    def check(self, reached: float | None, wanted: float) -> None:
        """`Truncated`, if frames ended at ``reached`` (None: there were none) though more are due before ``wanted``."""
        if self.bad > self.good:
            what = f"{self.bad} of {self.bad + self.good} packets do not decode"
        elif reached is None:
            what = "nothing in it decodes"
        elif reached < min(wanted, self.last) - self.tolerance:
            what = f"decoding stops at {reached - self.begin:.2f} s"
        else:
            return
        raise Truncated(what, where=self.path, mend=_AGAIN)


def _nominal(stream: Stream) -> float:
    """Seconds that a frame lasts, where nothing else says so."""
    rate = (stream.average_rate or stream.guessed_rate) if isinstance(stream, VideoStream) else None
    return float(1 / rate) if rate else 0.04


# ---- what is inside -------------------------------------------------------------------------------------------------


def _survey(path: Path) -> tuple[_Track | None, _Track | None, float, float]:
    """The picture, the sound, and when the file begins and ends."""
    with _opened(path) as container:
        streams = _chosen(container)
        headed = container.format.name not in _HEADERLESS
        begin = min((_seconds(stream.start_time, stream.time_base) or 0.0 for stream in streams), default=0.0)
        stated: float | None = None
        if container.duration is not None:
            # Matroska counts its duration from 0, the others from the first timestamp.
            since = 0 if "matroska" in container.format.name else container.start_time or 0
            stated = (since + container.duration) / av.time_base

        ends: dict[int, tuple[float, float]] = {}
        if headed and stated is not None and _seek(container, stated - 1.0):
            ends = _ends(container, begin)
        if not all(stream.index in ends for stream in streams):  # no seeking, or a stream ends early: look at it all
            with _opened(path) as afresh:
                ends = _ends(afresh, begin)

        tolerance = max([_SLACK, *(2 * _nominal(stream) for stream in streams)])
        if headed:
            tolerance += 0.0 if stated is None else min(0.25, 0.05 * abs(stated - begin))
            whole = stated if len(streams) == len(container.streams) else None  # else others may last longer
            _check_ends(path, streams, ends, whole, tolerance)
        streams = [stream for stream in streams if stream.index in ends]
        if not streams:
            raise NothingInside("holds no picture and no sound that can be decoded", where=path, mend="remove it")

        # The header is exact where it is true; packets are whole frames, of which the last may be cut.
        finish = max(ends[stream.index][1] for stream in streams)
        if stated is not None and abs(stated - finish) <= (tolerance if headed else _SLACK):
            finish = stated
        tracks = {s.type: _Track(path, s.index, begin, ends[s.index][0], tolerance, headed) for s in streams}
        return tracks.get("video"), tracks.get("audio"), begin, finish


def _chosen(container: InputContainer) -> list[Stream]:
    """The first picture and the first sound for which there is a decoder."""
    chosen: dict[str, Stream] = {}
    for stream in container.streams:
        cover = stream.disposition & Disposition.attached_pic
        if stream.type in ("video", "audio") and stream.codec_context is not None and not cover:
            chosen.setdefault(stream.type, stream)
    return list(chosen.values())


def _ends(container: InputContainer, begin: float) -> dict[int, tuple[float, float]]:
    """Stream -> (when its last packet is due, when that ends), from the packets that are left to read."""
    ends: dict[int, tuple[float, float]] = {}
    for packet in _packets(container):
        if packet.size and not packet.is_discard:
            last, end = ends.get(packet.stream_index, (begin, begin))
            stamp = _seconds(packet.dts if packet.pts is None else packet.pts, packet.time_base)
            time = end if stamp is None else stamp
            length = _seconds(packet.duration, packet.time_base) or 0.0
            ends[packet.stream_index] = max(last, time), max(end, time + length)
    return ends


def _check_ends(
    path: Path, streams: list[Stream], ends: dict[int, tuple[float, float]], stated: float | None, tolerance: float
) -> None:
    """`Truncated`, if one of the streams, or all of them, stop before the header says."""
    promises = [(stated, max((end for _, end in ends.values()), default=0.0))]
    for stream in streams:
        begin = _seconds(stream.start_time, stream.time_base) or 0.0
        length = _seconds(stream.duration, stream.time_base)
        promises.append((None if length is None else begin + length, ends.get(stream.index, (begin, begin))[1]))
    for promised, end in promises:
        if promised is not None and end < promised - tolerance:
            raise Truncated(f"stops at {end:.2f} s of {promised:.2f} s", where=path, mend=_AGAIN)


# ---- the pictures ---------------------------------------------------------------------------------------------------


def _pictures(track: _Track, wanted: list[float]) -> NDArray[np.uint8]:
    """(frames, height, width, 3) RGB: the pictures on show at ``wanted``, ascending seconds."""
    frames = track.frames_from(wanted[0])
    shown = upcoming = next(frames, None)
    images: NDArray[np.uint8] | None = None
    drawn, far = None, _FAR
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
        image = _upright(shown[1], None if images is None else images.shape[1:3])
        if images is None:
            images = np.empty((len(wanted), *image.shape), np.uint8)
        images[k], drawn = image, shown
    track.check(None if shown is None else math.inf if upcoming else shown[0], wanted[-1])
    assert images is not None  # else check() has raised
    return images


def _upright(frame: _Frame, size: tuple[int, ...] | None) -> NDArray[np.uint8]:
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


def _sound(track: _Track, start: float, stop: float, sample_rate: int) -> NDArray[np.float32] | None:
    """(samples,) in [-1, 1] at ``sample_rate``, sample 0 at ``start``; None if no sound lies in the window."""
    out = np.zeros(round((stop - start) * sample_rate), np.float32)
    heard = False
    for at, rate, samples in _runs(track, start, stop):
        # Begin where an input sample and an output sample coincide, so that resampling shifts nothing.
        lead = at % min(rate // math.gcd(rate, sample_rate), 1 << 20)  # less than a second, unless the rate is absurd
        resampled = _resample(np.pad(samples, (lead, 0)), rate, sample_rate)[-(-lead * sample_rate // rate) :]
        place = -(-at * sample_rate // rate)
        part = resampled[max(0, -place) : max(0, len(out) - place)]
        out[max(0, place) :][: len(part)] = part
        heard = heard or len(part) > 0
    return np.clip(out, -1, 1, out=out) if heard else None


def _runs(track: _Track, start: float, stop: float) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
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
        if chunks and (frame.sample_rate != rate or abs(offset - offsets[0]) > _SLACK * rate):
            yield round(sum(offsets) / len(offsets)), rate, np.concatenate(chunks)
            offset += count
            chunks, offsets, count = [], [], 0
        rate = frame.sample_rate
        chunks.append(_mono(frame))
        offsets.append(offset)
        count += frame.samples
    if chunks:
        yield round(sum(offsets) / len(offsets)), rate, np.concatenate(chunks)
    track.check(reached, stop)


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
