"""Films of a known size and rate, as H.264 with AAC: what video sites hand out, drawn here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

RATE = 44_100  #: Hz of the sound, stereo
PER_SECOND = 25  #: pictures


class Kind(NamedTuple):
    width: int
    height: int
    video: int  #: bits a second asked of the encoder
    audio: int


#: Bits a second are assumptions: about what video sites give at these sizes.
KINDS = {
    "340x256": Kind(340, 256, 350_000, 96_000),
    "640x360": Kind(640, 360, 600_000, 128_000),
    "1280x720": Kind(1280, 720, 2_000_000, 128_000),
}


def film(path: Path, kind: str, seconds: int) -> Path:
    """A camera that pans over a rough surface while things cross it, with grain; the sound is noise that swells."""
    of, some = KINDS[kind], np.random.default_rng(0)
    ground = _rough(some, of.height + 64, of.width + 256)
    things = [_rough(some, of.height // 4, of.width // 5) for _ in range(4)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = of.width, of.height, "yuv420p"
        stream.codec_context.bit_rate = of.video
        stream.codec_context.time_base = Fraction(1, PER_SECOND)
        track = out.add_stream("aac", rate=RATE, layout="stereo")
        track.codec_context.bit_rate = of.audio
        for k in range(seconds * PER_SECOND):
            frame = av.VideoFrame.from_ndarray(_picture(some, ground, things, of, k), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, PER_SECOND)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        size, total = track.frame_size or 1024, seconds * RATE
        for at in range(0, total, size):
            times = np.arange(at, min(at + size, total)) / RATE
            swell = 0.3 * (1 + np.sin(2 * np.pi * times)) / 2
            wave = swell * (0.5 * some.standard_normal((2, len(times))) + np.sin(2 * np.pi * 440 * times))
            piece = av.AudioFrame.from_ndarray(np.clip(wave, -1, 1).astype(np.float32), format="fltp", layout="stereo")
            piece.sample_rate, piece.pts, piece.time_base = RATE, at, Fraction(1, RATE)
            out.mux(track.encode(piece))
        out.mux(track.encode())
    return path


def _picture(
    some: np.random.Generator, ground: NDArray[np.float64], things: list[NDArray[np.float64]], of: Kind, k: int
) -> NDArray[np.uint8]:
    """(height, width, 3)"""
    left, top = round(100 + 90 * np.sin(k / 40)), round(30 + 20 * np.sin(k / 25))
    image = ground[top : top + of.height, left : left + of.width].copy()
    for i, thing in enumerate(things):
        rows, columns = thing.shape[:2]
        x = round((of.width - columns) * (0.5 + 0.5 * np.sin(k / (12 + 5 * i) + i)))
        y = round((of.height - rows) * (0.5 + 0.5 * np.cos(k / (15 + 4 * i) + 2 * i)))
        image[y : y + rows, x : x + columns] = thing
    image += some.normal(0, 2, (of.height, of.width, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def _rough(some: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns, 3): noise whose power falls with frequency, as that of pictures does; 0..255."""
    falls = 1 / np.maximum(np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]), 1 / rows)
    channels = []
    for _ in range(3):
        wave = np.fft.irfft2(np.fft.rfft2(some.standard_normal((rows, columns))) * falls, (rows, columns))
        channels.append((wave - wave.mean()) / wave.std())
    grey = sum(channels)
    return np.clip(128 + np.stack([45 * (0.7 * grey / 3**0.5 + 0.3 * c) for c in channels], -1), 0, 255)
