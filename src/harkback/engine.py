"""More machines than this one, as those who have work for them see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harkback.clips import Clip
from harkback.encoders import Encoder, Opening

if TYPE_CHECKING:
    from harkback.catalogue import Source
    from harkback.course import Course
    from harkback.material import Material
    from harkback.places import Place
    from harkback.store import FeatureStore


class Engine(Protocol):
    """Does what a command would do in its own processes, with the same result. `harkback.cluster` has the one on Ray.

    Folders that are given to it must lie on a file system that all its machines see.
    """

    def opened(self, opening: Opening) -> Encoder:
        """The encoder; one with a device is opened where the devices are, and here is but its description."""
        ...

    def sources(self, paths: Sequence[Path | Place]) -> Iterator[tuple[Path | Place, Source | None]]:
        """What each file holds; None for one that could not be read. In no order."""
        ...

    def fill(
        self, store: FeatureStore, todo: Mapping[str, Clip], encoder: Encoder, kept: Callable[[str], None]
    ) -> dict[str, str]:
        """Encode the clips into the store, by key, in their order. kept: is told of each that was tried.

        Returns the failures that are not the clip's own, so that it will be tried again.
        """
        ...

    def take(self, courses: Sequence[Course], material: Material, tell: Callable[[], object]) -> dict[int, str]:
        """Take courses that are not finished; returns why some could not be, by their number in ``courses``.

        tell: is called now and then; what is finished stands in the courses' logs.
        """
        ...
