"""AV-CIL's released features of VGGSound100, with a test that shares no video with the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from harkback.clips import Clip, Skip
from harkback.datasets import BenchProtocol
from harkback.datasets._avcil import DISJOINT, Bench, bench, shortfall
from harkback.datasets.avcil_features import AvcilFeatures
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.extract import Extraction


@final
class AvcilFeaturesDisjoint:
    """As `avcil-features`, on the test clips of `vggsound100-disjoint`; the two share a store."""

    PICKLED = True

    def __init__(self, root: Path, *, read_pickle: bool = False) -> None:
        self._whole = AvcilFeatures(root, read_pickle=read_pickle)
        if self._whole.bench.name != bench(DISJOINT).name.removesuffix("-disjoint"):
            raise HarkbackError(
                f"holds features of {self._whole.bench.name}, in which no video is in two splits",
                where=root,
                mend="use avcil-features",
            )

    @property
    def name(self) -> str:
        return f"{self._whole.name}-disjoint"

    @property
    def bench(self) -> Bench:
        return bench(DISJOINT)

    @property
    def protocol(self) -> BenchProtocol:
        return self._whole.protocol

    @property
    def splits(self) -> dict[str, tuple[Clip, ...]]:
        kept = self.bench.splits
        return {
            split: tuple(clip for clip in clips if clip.id in kept[split])
            for split, clips in self._whole.splits.items()
        }

    @property
    def skips(self) -> tuple[Skip, ...]:
        listed = {clip for clips in self.bench.splits.values() for clip in clips}
        return tuple(skip for skip in self._whole.skips if skip.id in listed)

    @property
    def shortfall(self) -> str:
        """How many of the listed clips are there, and of which classes there are none; nothing if all are."""
        return shortfall(self)

    @property
    def spec(self) -> EncoderSpec:
        return self._whole.spec

    def convert(self, clips: Sequence[Clip], root: Path) -> Extraction:
        return self._whole.convert(clips, root)
