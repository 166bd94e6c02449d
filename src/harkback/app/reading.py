"""The windows of a stranger's file, decoded: work for a process of its own.

It loads what is named here and no more; the server's modules would take it longer to load than a clip takes to decode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harkback import stills
from harkback.confined import Say
from harkback.encoders import Encoder
from harkback.encoding import encoded_each
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.media import Media, MediaError
from harkback.parcels import packed
from harkback.windows import Window, check_length, decoded, length_of, windows

MOST = 4000  #: windows of a file
STILL = "still"  #: how the arrays are named that are JPEG files


def read(say: Say, path: Path, window: float | None, encoder: Encoder, pictures: bool, longest: float | None) -> None:
    """Say the seconds and the spans, then each window: its media or features, or why there are none.

    window: seconds; None: the whole file at once. pictures: with the frames as JPEG files. longest: seconds.
    """
    length = length_of(path)
    check_length(path, length, longest)
    spans = [(0.0, length)] if window is None else windows(length, window)
    if len(spans) > MOST:
        raise HarkbackError(f"would be {len(spans)} windows, and {MOST} are the most", mend="take longer windows")
    say(({"seconds": length, "spans": spans}, {}))
    for span, media in zip(spans, decoded(path, spans, encoder), strict=True):
        if isinstance(media, MediaError):
            say(({"failed": media.what, "mend": media.mend}, {}))
            continue
        found: Media | Features | str = encoded_each(encoder, [media])[0] if encoder.in_workers else media
        if isinstance(found, str):
            say(({"failed": found, "mend": None}, {}))
            continue
        facts, arrays = packed(found)
        if pictures and media.frames is not None:
            arrays |= _stills(path, span, encoder.spec.frames)
        say((facts, arrays))


def _stills(path: Path, span: Window, count: int) -> dict[str, Any]:
    frames = stills.frames(path, span, count)
    each = [] if frames is None else [stills.jpeg(frame) for frame in frames]
    return {f"{STILL}{k:04d}": np.frombuffer(picture, np.uint8) for k, picture in enumerate(each)}
