"""Kinetics-Sounds as AV-CIL cuts it: 30 classes of actions that can be heard in 5 sessions of 6, 500 exemplars."""

from __future__ import annotations

from typing import final

from harkback.datasets._videos import VIDEO, BenchVideos


@final
class KineticsSounds(BenchVideos):
    """19,220 training, 1,947 validation and 1,958 test clips, in files as the Kinetics downloads name them."""

    BENCH = "kinetics-sounds"
    NAMING = "<YouTube id>.mp4 or <YouTube id>_<start>_<end>.mp4 with six digits each"
    PATTERN = VIDEO + r"(_\d{6}_\d{6})?"  # No two clips are of one video, so its id tells which one it is.
