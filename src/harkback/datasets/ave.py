"""AVE as AV-CIL cuts it: 28 classes of audio-visual events in 4 sessions of 7, 340 exemplars."""

from __future__ import annotations

from typing import final

from harkback.datasets._videos import VIDEO, BenchVideos


@final
class Ave(BenchVideos):
    """3,294 training, 391 validation and 394 test clips of 10 s, in files as the AVE data set names them."""

    BENCH = "ave"
    NAMING = "<YouTube id>.mp4"
    PATTERN = VIDEO
