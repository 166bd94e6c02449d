"""A folder of clips -> the features a model learns from, without what it knows already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from harkback.apart import apart
from harkback.clips import Clip, Skip
from harkback.confined import DECODING, Limits
from harkback.datasets import Encoded, open_dataset
from harkback.datasets._found import Found
from harkback.datasets.folder import LAYOUTS
from harkback.encoders import Encoder
from harkback.errors import HarkbackError
from harkback.extract import extract
from harkback.features import FeatureRows, Rows
from harkback.formats import count
from harkback.media import MediaError
from harkback.names import check_names
from harkback.store import Stored
from harkback.windows import lengths

MEASURED = 50  #: clips whose length is looked up, to know how long such clips are


@dataclass(frozen=True, slots=True)
class Lesson:
    """Clips to learn; row ``i`` of the features is ``clips[i]``, and its id the hash of its content."""

    features: FeatureRows
    clips: tuple[Clip, ...]
    skips: tuple[Skip, ...]
    window: float  #: seconds that such a clip lasts, typically

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(str(clip.label) for clip in self.clips)


def clips_of(source: str, only: Sequence[str], known: Sequence[str]) -> tuple[list[Clip], tuple[Skip, ...]]:
    """The clips to teach, class by class, and what lies there besides. known: classes that the model has.

    Of a folder with train, val and test, those of train; else all. only: these classes, in this order; none: all.
    """
    dataset = open_dataset(source)
    if isinstance(dataset, Encoded):
        raise HarkbackError("comes as features, and a model is taught clips", where=source, mend="use harkback bench")
    found = dataset.lessons if isinstance(dataset, Found) else dataset.splits.get("train", ())
    by_class: dict[str, list[Clip]] = {}
    for clip in found:
        by_class.setdefault(str(clip.label), []).append(clip)
    if not by_class:
        raise HarkbackError("there are no clips to learn from in it", where=source, mend=LAYOUTS)
    for name in only:
        if name not in by_class:
            raise HarkbackError(
                f'there are no clips of class "{name}"', where=source, mend=f"choose from {', '.join(sorted(by_class))}"
            )
    chosen = only or tuple(by_class)
    check_names((name for name in chosen if name not in known), known)
    return [clip for name in chosen for clip in by_class[name]], dataset.skips


def prepared(
    source: str, clips: Sequence[Clip], encoder: Encoder, store: Path, learnt: Mapping[str, str], workers: int | None
) -> Lesson:
    """Encode what the store lacks, and leave out, by name, what cannot be read or was learnt already.

    learnt: the class of each clip the model knows, by the hash of its content.
    """
    limits = None if workers == 0 else DECODING
    done = extract(clips, encoder, store, workers=workers)
    skips, known = list(done.skips), dict(learnt)
    rows: list[int] = []
    taken: set[str] = set()
    for row, (clip, key) in enumerate(zip(done.clips, done.keys, strict=True)):
        before = known.setdefault(key, str(clip.label))
        if key in learnt or before != clip.label or key in taken:
            when = "was learnt before" if key in learnt else "is there twice"
            other = f', as "{before}"' if before != clip.label else ""
            skips.append(Skip(clip.id, clip.path, f"the same content {when}{other}"))
        else:
            rows.append(row)
            taken.add(key)
    if not rows:
        first = f"; the first, {skips[0].id}: {skips[0].reason}" if skips else ""
        raise HarkbackError(f"there is nothing new to learn in its {count(len(clips), 'clip')}{first}", where=source)
    stored = done.features
    assert isinstance(stored, Stored)
    features = Rows(replace(stored, ids=done.keys), torch.tensor(rows, dtype=torch.long))
    return Lesson(features, tuple(done.clips[row] for row in rows), tuple(skips), _typical(done.clips, limits))


def _typical(clips: Sequence[Clip], limits: Limits | None) -> float:
    """Median seconds of some of the clips."""
    found: list[float] = []
    with suppress(MediaError):  # They were decoded before, so one has changed since; the others tell.
        for seconds in apart(lengths, list(clips[:: max(1, len(clips) // MEASURED)]), limits=limits):
            found.append(seconds)
    return round(median(found), 3) if found else 0.0
