"""Frames of a clip for people to look at: small, upright, in their own proportions."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from torch import Tensor

from harkback.media import read
from harkback.pictures import Fit
from harkback.windows import Window

SIDE = 240  #: pixels of the longer side
QUALITY = 5 * 118  #: of a JPEG, 118 (best) to 31 x 118, as FFmpeg counts


def frames(path: Path, span: Window, count: int) -> Tensor | None:
    """(count, height, width, 3) uint8, spread evenly over ``span``, the longer side `SIDE`; None: there is no picture.

    Raises `harkback.media.MediaError`.
    """
    return read(path, frames=count, sample_rate=16_000, start=span[0], end=span[1], picture=Fit(SIDE)).frames


def jpeg(frame: Tensor) -> bytes:
    """frame: (height, width, 3) uint8 RGB."""
    codec = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width, codec.pix_fmt = frame.shape[0], frame.shape[1], "yuvj420p"
    codec.options = {"flags": "+qscale", "global_quality": str(QUALITY)}
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.numpy()), format="rgb24")
    picture = picture.reformat(format="yuvj420p", threads=1)
    return b"".join(bytes(packet) for packet in [*codec.encode(picture), *codec.encode(None)])
