"""A file of a stranger -> answers, window by window, with what made them; it is decoded in a process of its own."""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
from torch import Tensor

from harkback.answers import Answer, nothing, told
from harkback.app.held import Held
from harkback.app.reading import STILL, read
from harkback.app.words import AnswerWord, Heat, Ranked
from harkback.confined import DECODING, Confined, Limits
from harkback.encoders import bare
from harkback.explain import look, shares
from harkback.features import Features
from harkback.media import Media, MediaError
from harkback.parcels import Parcel, unpacked
from harkback.windows import Window, encoded


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a file."""

    window: float | None = None  #: seconds; None: as long as the clips that were taught; 0: the whole file at once
    false_alarm: float | None = None  #: None: the model's own
    frames: bool = False  #: with the frames as pictures, for a page that cannot play the file


@dataclass(frozen=True, slots=True)
class Head:
    """What is known before the first answer."""

    seconds: float
    windows: int


class Asking:
    """A question about a file, while it is answered."""

    def __init__(self, held: Held, path: Path, question: Question, limits: Limits = DECODING) -> None:
        model, encoder = held.taught(), held.encoder()
        length = model.window if question.window is None else question.window
        rate = model.pupil.false_alarm if question.false_alarm is None else question.false_alarm
        self._held, self._encoder = held, encoder
        self._learner, self._calibration = model.learner, model.pupil.calibration
        self._bound = self._calibration.threshold(rate)
        self._path, self._limits = path, limits
        self._given = (path, length or None, bare(encoder), question.frames, limits.length)
        self._running: Confined | None = None
        self._stopped = False
        self.parts = self._begun()  #: a `Head`, then an answer a window

    def stop(self) -> None:
        """Give it up, from any thread; whoever waits for the next part is told so."""
        self._stopped = True
        if self._running is not None:
            self._running.stop()

    def close(self) -> None:
        """Its process has ended when this returns. To be called when nobody waits for a part."""
        self.parts.close()

    def _begun(self) -> Generator[Head | AnswerWord, None, None]:
        with Confined(read, *self._given, limits=self._limits) as self._running:
            if not self._stopped:
                yield from self._answers(iter(self._running))

    def _answers(self, parcels: Iterator[Parcel]) -> Iterator[Head | AnswerWord]:
        facts, _ = next(parcels)
        spans: list[Window] = [(start, end) for start, end in facts["spans"]]
        yield Head(facts["seconds"], len(spans))
        shown: dict[Window, list[str]] = {}
        failure: MediaError | None = None
        answered = False
        received = zip(spans, (_received(parcel, self._path) for parcel in parcels), strict=True)
        for span, found in encoded(_unwrapped(received, shown), self._encoder):
            if isinstance(found, MediaError):
                failure = failure or found
                yield _word(nothing("", span), None, (None, None), "", None)
                continue
            answered = True
            with self._held.scoring:
                answer = told("", span, found, self._learner, self._calibration, self._bound)
                heat, note = look(self._learner, found) if answer.seen else (None, "")
                (part,) = shares(self._learner, found, [answer.likeliest])
            yield _word(answer, heat, (part.sound, part.picture), note, shown.pop(span, None))
        if failure is not None and not answered:
            # Another: a failure knows the frame it was raised in, and if that knows it too, both keep the model.
            raise MediaError(failure.what, where=failure.where, mend=failure.mend)


def _received(parcel: Parcel, path: Path) -> tuple[Media | Features | MediaError, list[str]]:
    facts, arrays = parcel
    if "failed" in facts:
        return MediaError(facts["failed"], where=path, mend=facts["mend"]), []
    pictures = [arrays.pop(name) for name in sorted(arrays) if name.startswith(STILL)]
    uris = [f"data:image/jpeg;base64,{base64.b64encode(picture.tobytes()).decode()}" for picture in pictures]
    return unpacked((facts, arrays)), uris


def _unwrapped(
    received: Iterator[tuple[Window, tuple[Media | Features | MediaError, list[str]]]], shown: dict[Window, list[str]]
) -> Iterator[tuple[Window, Media | Features | MediaError]]:
    """Without the pictures, which go past the encoder into ``shown``."""
    for span, (found, pictures) in received:
        if pictures:
            shown[span] = pictures
        yield span, found


def _word(
    answer: Answer,
    heat: Tensor | None,
    part: tuple[float | None, float | None],
    note: str,
    pictures: list[str] | None,
) -> AnswerWord:
    sound, picture = part
    return AnswerWord(
        start=round(answer.start, 3),
        end=round(answer.end, 3),
        label=answer.label,
        unknown=answer.label is None,
        likeliest=answer.likeliest,
        confidence=round(answer.confidence, 6),
        ranking=[Ranked(label=name, confidence=round(share, 6)) for name, share in answer.ranking],
        heard=answer.heard,
        seen=answer.seen,
        sound=None if sound is None else round(sound, 4),
        picture=None if picture is None else round(picture, 4),
        heat=None if heat is None else _heat(heat),
        note=note,
        pictures=pictures,
    )


def _heat(heat: Tensor) -> Heat:
    """heat: (frames, patches), of any sum. Roots are sent: a look is faint almost everywhere, and bytes are coarse."""
    grid = isqrt(heat.shape[1])
    levels = (255 * (heat.double() / heat.max().double()).sqrt()).round().byte().numpy()
    data = base64.b64encode(np.ascontiguousarray(levels).tobytes()).decode()
    return Heat(frames=heat.shape[0], rows=grid, columns=grid, power=2, data=data)
