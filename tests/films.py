"""Media files that tests write with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray


def gray(level: int, size: tuple[int, int] = (32, 32)) -> NDArray[np.uint8]:
    """(height, width, 3) of one level."""
    return np.full((*size, 3), level, np.uint8)


def film(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    stamps: Sequence[int] | None = None,
    *,
    codec: str = "mpeg4",
    sound: NDArray[np.float64] | None = None,
    sound_codec: str = "aac",
    sound_from: int = 0,
    sound_rate: int = 44_100,
    turn: tuple[int, bool] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write ``images`` shown from ``stamps`` (ms; default: 25 a second) and ``sound`` (channels, samples)."""
    with av.open(str(path), "w", options=options or {}) as out:
        if images:
            stream = out.add_stream(codec, rate=25)
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = {"ffv1": "bgr0", "rawvideo": "bgr24", "png": "rgb24", "mjpeg": "yuvj420p"}.get(
                codec, "yuv420p"
            )
            stream.codec_context.time_base = Fraction(1, 1000) if stamps else Fraction(1, 25)
            stream.codec_context.bit_rate = 4_000_000
            stream.codec_context.gop_size = 10
            if turn:
                if not hasattr(stream, "set_display_rotation"):  # Before PyAV 18.1; reading such films needs less.
                    pytest.skip("this PyAV writes no film that is turned")
                stream.set_display_rotation(turn[0], hflip=turn[1])
        if sound is not None:
            track = out.add_stream(sound_codec, rate=sound_rate, layout={1: "mono", 2: "stereo", 6: "5.1"}[len(sound)])
        for k, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamps[k] if stamps else k, stream.codec_context.time_base
            out.mux(stream.encode(frame))
        if images:
            out.mux(stream.encode())
        if sound is not None:
            values = np.round(sound.T * 32767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(values, format="s16", layout=track.layout.name)
            frame.sample_rate, frame.time_base = sound_rate, Fraction(1, sound_rate)
            frame.pts = sound_from * sound_rate // 1000
            resampler = av.AudioResampler(track.format.name, track.layout, sound_rate, track.frame_size or 1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(track.encode(piece))
            out.mux(track.encode())
    return path
