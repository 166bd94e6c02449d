"""A few small pictures of each class's clips, for people to see what a model was taught.

They lie in the model's folder but are no part of the model: no version has them, nothing is computed from them, and
they are neither pushed nor exported. Forgetting a class removes its pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from harkback.apart import apart
from harkback.clips import Clip
from harkback.confined import Limits
from harkback.files import whole
from harkback.media import MediaError
from harkback.places import at_hand
from harkback.stills import frames, jpeg
from harkback.windows import length_of

FOLDER = ".examples"
EACH = 3  #: pictures of a class
BLINK = 0.1  #: seconds around the moment that is shown


def keep(
    model: Path,
    clips: Iterable[tuple[str, Clip]],
    before: Mapping[str, Iterable[str]],
    limits: Limits | None = None,
) -> None:
    """Keep pictures of the first of these clips, until each class has `EACH`.

    clips: with the hashes of their content; before: the hashes of each class's clips of former sessions. A clip without
    a picture, or one that cannot be read any more, has none. limits: of the process that decodes; None: this one does.
    """
    missing = {label: EACH - len(keys) for label, keys in found(model, before).items()}
    full = {label for label, count in missing.items() if count <= 0}
    wanted = [(key, clip) for key, clip in clips if str(clip.label) not in full]
    if wanted:
        words = apart(_middles, wanted, missing, limits=limits)
        for key, frame in zip(words, words, strict=True):
            with whole(_place(model, key)) as temporary:
                temporary.write_bytes(jpeg(frame))


def found(model: Path, classes: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Of each class, those of its clips' hashes of which there is a picture, `EACH` at most."""
    there = {path.stem for path in (model / FOLDER).glob("*.jpg")}
    return {name: list(islice((key for key in keys if key in there), EACH)) for name, keys in classes.items()}


def picture(model: Path, key: str) -> bytes | None:
    """A JPEG; None: there is none."""
    place = _place(model, key)
    return place.read_bytes() if place.exists() else None


def sweep(model: Path, learnt: Collection[str]) -> None:
    """Remove pictures of all clips but these, by the hashes of their content."""
    for path in (model / FOLDER).glob("*.jpg"):
        if path.stem not in learnt:
            path.unlink(missing_ok=True)


def learnt(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """The hashes of the clips of each class. facts: model.json."""
    clips: dict[str, list[str]] = {name: [] for name in facts["classes"]}
    for record in facts["sessions"]:
        for name, keys in record.get("clips", {}).items():
            clips[name] += keys
    return clips


def _middles(clips: Sequence[tuple[str, Clip]], missing: Mapping[str, int]) -> Iterator[str | Tensor]:
    """The key of a clip, then its picture, until no class misses any."""
    left = dict(missing)
    for key, clip in clips:
        label = str(clip.label)
        if left.get(label, EACH) > 0 and (frame := _middle(clip)) is not None:
            left[label] = left.get(label, EACH) - 1
            yield key
            yield frame


def _middle(clip: Clip) -> Tensor | None:
    try:
        with at_hand(clip.path) as path:
            length = length_of(path)
            end = length if clip.end is None else min(clip.end, length)
            middle = (clip.start + end) / 2
            span = (clip.start, end) if end - clip.start <= BLINK else (middle - BLINK / 2, middle + BLINK / 2)
            shown = frames(path, span, 1)
    except (MediaError, OSError):
        return None
    return None if shown is None else shown[0]


def _place(model: Path, key: str) -> Path:
    return model / FOLDER / f"{key}.jpg"
