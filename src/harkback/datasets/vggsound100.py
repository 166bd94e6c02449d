"""VGGSound100 as AV-CIL cuts it: 100 classes of sounds in view in 10 sessions of 10, 1,500 exemplars."""

from __future__ import annotations

from typing import final

from harkback.datasets._videos import VIDEO, BenchVideos


@final
class Vggsound100(BenchVideos):
    """51,195 training, 5,000 validation and 5,000 test clips of 10 s, in files as VGGSound and its mirrors name them.

    1,627 of the test clips are cut from a video of which another piece is a training clip: see `vggsound100-disjoint`.
    """

    BENCH = "vggsound100"
    NAMING = "<YouTube id>_<start second>.mp4"
    PATTERN = VIDEO + r"_(?P<start>\d{1,6})"  # Mirrors differ in whether the second is filled up with zeros.
