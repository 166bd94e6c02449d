"""Frames of a clip for people to look at: small, upright, in their own proportions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor

from harkback.encoders import Encoder
from harkback.media import MediaError, read
from harkback.pictures import Fit
from harkback.windows import Window, decoded

SIDE = 240  #: pixels of the longer side
QUALITY = 5 * 118  #: of a JPEG, 118 (best) to 31 x 118, as FFmpeg counts


def frames(path: Path, span: Window, count: int) -> Tensor | None:
    """(count, height, width, 3) uint8, spread evenly over ``span``, the longer side `SIDE`; None: there is no picture.

    Raises `harkback.media.MediaError`.
    """
    return read(path, frames=count, sample_rate=16_000, start=span[0], end=span[1], picture=Fit(SIDE)).frames


def shown(path: Path, wanted: Sequence[tuple[Window, bool]], encoder: Encoder) -> Iterator[Any]:
    """Each window's media, or its features where the encoder needs no device; then its frames, if they are wanted.

    For `apart.apart`. Raises `harkback.media.MediaError`.
    """
    for span, pictures in wanted:
        media = next(decoded(path, [span], encoder))
        if isinstance(media, MediaError):
            raise media
        yield encoder.encode([media]) if encoder.in_workers else media
        if pictures:
            yield frames(path, span, encoder.spec.shape.frames)


def jpeg(frame: Tensor) -> bytes:
    """frame: (height, width, 3) uint8 RGB."""
    codec = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width, codec.pix_fmt = frame.shape[0], frame.shape[1], "yuvj420p"
    codec.options = {"flags": "+qscale", "global_quality": str(QUALITY)}
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.numpy()), format="rgb24")
    picture = picture.reformat(format="yuvj420p", threads=1)
    return b"".join(bytes(packet) for packet in [*codec.encode(picture), *codec.encode(None)])
