"""VGGSound100 with a test that shares no video with the training: an answer cannot be known from the scene."""

from __future__ import annotations

from typing import final

from harkback.datasets._videos import BenchVideos
from harkback.datasets.vggsound100 import Vggsound100


@final
class Vggsound100Disjoint(BenchVideos):
    """As `vggsound100`, with the 3,373 of its 5,000 test clips whose video has no training clip."""

    BENCH = "vggsound100-disjoint"
    NAMING = Vggsound100.NAMING
    PATTERN = Vggsound100.PATTERN
