"""The inside of a media file: its pictures and its sound as streams of frames with times, and how long it really lasts.

Bytes are not believed: what the header says is checked against the packets, and what does not fit raises one of the
typed failures below. Every pass opens the file anew and so inherits no state. Times are in seconds on the file's own
clock, which need not begin at 0.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from io import BufferedReader, FileIO
from itertools import chain
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from harkback._unreadable import NothingInside, NotMedia, Truncated, Unreachable
from harkback.errors import mend_of

FAR = 10.0  #: seconds: up to here, decoding on is cheaper than a jump and the frames from its key frame
SLACK = 0.05  #: seconds that timestamps of sound may wander (containers round them) before they mean a gap
AGAIN = "fetch or export the file again"
BROKEN = (FFmpegError, ValueError, ArithmeticError, EOFError, OSError)  #: what PyAV raises over bad bytes

_PIXELS = 1 << 26  # in one picture; 8K has half of it, a corrupt header asks for any number

#: How containers begin whose table of contents may be missing: (offset, bytes).
_BEGINNINGS = ((4, b"ftyp"), (4, b"moov"), (0, b"RIFF"), (0, b"\x1aE\xdf\xa3"), (0, b"OggS"), (0, b"fLaC"), (0, b"FLV"))

#: Formats without a header: FFmpeg guesses their duration from the bit rate, and finding a time means reading up to it.
_HEADERLESS = {"aac", "ac3", "amr", "dts", "eac3", "h264", "hevc", "m4v", "mjpeg", "mp3", "mpegvideo", "obu"}

Frame = VideoFrame | AudioFrame


# ---- the file -------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The file, from a Python stream: its name is never taken for a pattern, a protocol or a device."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise NotMedia("is not a file", where=path, mend="name a media file")
        file = _Watched(FileIO(path))
    except OSError as error:
        raise _unreachable("opened", error, path) from None
    try:
        with file, _container(path, file) as container:
            yield container
    finally:
        if file.failure is not None:
            raise _unreachable("read", file.failure, path) from file.failure


def _unreachable(what: str, error: OSError, path: Path) -> Unreachable:
    mend = mend_of(error, "check the disk, and its name and permissions")
    return Unreachable(f"cannot be {what} ({reason(error)})", where=path, mend=mend)


class _Watched(BufferedReader):
    """Remembers that reading failed: to FFmpeg that is the end of the file, or a bad byte."""

    failure: OSError | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(size)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def _container(path: Path, file: _Watched) -> Iterator[InputContainer]:
    head = file.read(16)
    size = file.seek(0, 2)
    file.seek(0)
    known = any(head[at:].startswith(mark) for at, mark in _BEGINNINGS)
    # RIFF (.wav, .avi) states its size, and FFmpeg makes do with less. Near 2 GiB and beyond it means "unknown".
    stated = int.from_bytes(head[4:8], "little") if head.startswith(b"RIFF") else 0
    if size < 0.95 * stated and stated < 0x7FFF0000:
        raise Truncated(f"holds {size} bytes of {stated}", where=path, mend=AGAIN)
    # A playlist may not make this process open other files or hosts.
    limits = {"protocol_whitelist": "none", "max_pixels": str(_PIXELS)}
    try:
        container = av.open(file, mode="r", options=limits, metadata_errors="replace")
    except MemoryError:  # PyAV's is one of its own too.
        raise
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):  # It opens another file besides.
            raise _unreachable("opened", error, path) from error
        if known:
            raise Truncated("its table of contents is missing", where=path, mend=AGAIN) from error
        what = f"is no media file that FFmpeg knows ({reason(error)})" if head else "is empty"
        raise NotMedia(what, where=path, mend="remove it, or convert it to mp4 or wav") from error
    with container:
        if known and not len(container.streams):
            raise Truncated("its table of contents is missing", where=path, mend=AGAIN)
        if container.format.name == "tty":  # FFmpeg films a .txt file on a terminal
            raise NotMedia("is a text file", where=path, mend="remove it")
        yield container


def reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Stream]]:
    """The packets up to the end, or to where the file cannot be read any more."""
    try:
        yield from container.demux(streams)
    except MemoryError:
        raise
    except BROKEN:
        return


def _seek(container: InputContainer, time: float) -> bool:
    """Go to the last key frame before ``time``; whether the container can."""
    try:
        container.seek(int(time * av.time_base))
    except MemoryError:
        raise
    except BROKEN:
        return False
    return True


def _seconds(stamp: int | None, base: Fraction | None) -> float | None:
    return None if stamp is None or base is None else stamp * base.numerator / base.denominator


# ---- one stream -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Track:
    """One stream of a file, and how its decoding went."""

    path: Path
    index: int
    begin: float  #: seconds; where the time of the clip begins
    last: float  #: seconds; when the last packet is due
    tolerance: float  #: seconds
    seeks: bool
    good: int = field(default=0, init=False)  #: packets that decoded
    bad: int = field(default=0, init=False)  #: packets that did not

    def frames_from(self, time: float) -> Iterator[tuple[float, Frame]]:
        """Frames with their times; the first is not after ``time``, unless the stream begins later."""
        if self.seeks and time - self.begin > FAR:
            # Without an index a container may land late, behind the key frame: try once more from well before.
            for since in (time, time - FAR / 2):
                frames = self._frames(since)
                first = next(frames, None)
                if first is not None and first[0] <= time:
                    return chain([first], frames)
        return self._frames(None)

    def _frames(self, since: float | None) -> Iterator[tuple[float, Frame]]:
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

    def _decoded(self, stream: Stream, packet: Packet[Stream]) -> Sequence[Frame]:
        assert isinstance(stream, VideoStream | AudioStream)
        try:
            frames = stream.decode(packet)
        except MemoryError:
            raise
        except BROKEN:
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
        raise Truncated(what, where=self.path, mend=AGAIN)


def _nominal(stream: Stream) -> float:
    """Seconds that a frame lasts, where nothing else says so."""
    rate = (stream.average_rate or stream.guessed_rate) if isinstance(stream, VideoStream) else None
    return float(1 / rate) if rate else 0.04


# ---- what is inside -------------------------------------------------------------------------------------------------


def survey(path: Path) -> tuple[Track | None, Track | None, float, float]:
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

        tolerance = max([SLACK, *(2 * _nominal(stream) for stream in streams)])
        if headed:
            tolerance += 0.0 if stated is None else min(0.25, 0.05 * abs(stated - begin))
            whole = stated if len(streams) == len(container.streams) else None  # else others may last longer
            _check_ends(path, streams, ends, whole, tolerance)
        streams = [stream for stream in streams if stream.index in ends]
        if not streams:
            raise NothingInside("holds no picture and no sound that can be decoded", where=path, mend="remove it")

        # The header is exact where it is true; packets are whole frames, of which the last may be cut.
        finish = max(ends[stream.index][1] for stream in streams)
        if stated is not None and abs(stated - finish) <= (tolerance if headed else SLACK):
            finish = stated
        tracks = {s.type: Track(path, s.index, begin, ends[s.index][0], tolerance, headed) for s in streams}
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
            raise Truncated(f"stops at {end:.2f} s of {promised:.2f} s", where=path, mend=AGAIN)
