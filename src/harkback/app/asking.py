"""A file of a stranger -> answers, window by window, with what made them; it is decoded in a process of its own."""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from harkback import stills
from harkback.answers import Answer, nothing, told
from harkback.app.held import Held
from harkback.app.words import AnswerWord, Heat, Ranked
from harkback.confined import DECODING, Confined, Limits, Say
from harkback.encoders import Encoder, bare
from harkback.errors import HarkbackError
from harkback.explain import look, shares
from harkback.features import Features
from harkback.media import Media, MediaError
from harkback.parcels import Parcel, packed, unpacked
from harkback.windows import Window, check_length, decoded, encoded, length_of, windows

MOST = 4000  #: windows of a file
STILL = "still"  #: how the arrays are named that are JPEG files


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
        self._limits, self._given = limits, (path, length or None, bare(encoder), question.frames, limits.length)
        self._running: Confined | None = None
        self._stopped = False

    def stop(self) -> None:
        """Give it up, from any thread; whoever waits for the next part is told so."""
        self._stopped = True
        if self._running is not None:
            self._running.stop()

    def parts(self) -> Generator[Head | AnswerWord, None, None]:
        """A `Head`, then an answer a window."""
        with Confined(_read, *self._given, limits=self._limits) as self._running:
            if not self._stopped:
                yield from self._answers(iter(self._running))

    def _answers(self, parcels: Iterator[Parcel]) -> Iterator[Head | AnswerWord]:
        facts, _ = next(parcels)
        spans: list[Window] = [(start, end) for start, end in facts["spans"]]
        yield Head(facts["seconds"], len(spans))
        shown: dict[Window, list[str]] = {}
        failure: MediaError | None = None
        answered = False
        received = zip(spans, (_received(parcel) for parcel in parcels), strict=True)
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
            raise failure


def _received(parcel: Parcel) -> tuple[Media | Features | MediaError, list[str]]:
    facts, arrays = parcel
    if "failed" in facts:
        return MediaError(facts["failed"]), []
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
    """heat: (frames, patches), of any sum."""
    grid = isqrt(heat.shape[1])
    levels = (255 * heat.double() / heat.max().double()).round().byte().numpy()
    data = base64.b64encode(np.ascontiguousarray(levels).tobytes()).decode()
    return Heat(frames=heat.shape[0], rows=grid, columns=grid, data=data)


# ---- in the process that decodes ------------------------------------------------------------------------------------


def _read(say: Say, path: Path, window: float | None, encoder: Encoder, pictures: bool, longest: float | None) -> None:
    length = length_of(path)
    check_length(path, length, longest)
    spans = [(0.0, length)] if window is None else windows(length, window)
    if len(spans) > MOST:
        raise HarkbackError(f"would be {len(spans)} windows, and {MOST} are the most", mend="take longer windows")
    say(({"seconds": length, "spans": spans}, {}))
    for span, media in zip(spans, decoded(path, spans, encoder), strict=True):
        if isinstance(media, MediaError):
            say(({"failed": media.what}, {}))
            continue
        facts, arrays = packed(encoder.encode([media]) if encoder.in_workers else media)
        if pictures and media.frames is not None:
            arrays |= _stills(path, span, encoder.spec.frames)
        say((facts, arrays))


def _stills(path: Path, span: Window, count: int) -> dict[str, Any]:
    frames = stills.frames(path, span, count)
    each = [] if frames is None else [stills.jpeg(frame) for frame in frames]
    return {f"{STILL}{k:04d}": np.frombuffer(picture, np.uint8) for k, picture in enumerate(each)}
