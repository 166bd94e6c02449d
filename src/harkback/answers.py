"""A media file -> what a learner takes it for: window by window, with confidence, or "unknown"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from harkback.apart import apart
from harkback.confined import Limits
from harkback.encoders import Encoder, bare
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.learners.base import Learner
from harkback.ledger import strangeness
from harkback.media import MediaError
from harkback.names import TAKEN
from harkback.windows import Window, cut, encoded

if TYPE_CHECKING:
    from harkback.unknown import Calibration

RANKED = 3  #: classes that are told of an answer, the likeliest first
SAME = 1e-6  #: seconds between two windows that touch


@dataclass(frozen=True, slots=True)
class Answer:
    """What a learner takes a stretch of a file for."""

    file: str  #: as it was named, be it text or not
    start: float  #: seconds
    end: float  #: seconds
    label: str | None  #: class name; None: unknown
    likeliest: str  #: class name, of an unknown stretch too; "" where nothing could be decoded
    confidence: float  #: 0..1, of ``likeliest``
    ranking: tuple[tuple[str, float], ...]  #: the likeliest classes with their confidences, descending
    heard: bool  #: there was sound
    seen: bool  #: there was a picture
    surest: Window | None = None  #: of neighbours that were merged, the one whose confidence was highest

    @property
    def name(self) -> str:
        return TAKEN if self.label is None else self.label

    @property
    def missing(self) -> str:
        """What the answer had to do without; "" if nothing was missing."""
        if not self.heard and not self.seen:
            return "nothing could be decoded"
        return "no sound" if not self.heard else "" if self.seen else "no picture"


def ask(
    path: Path,
    encoder: Encoder,
    learner: Learner[Any],
    calibration: Calibration,
    *,
    window: float | None,
    false_alarm: float,
    limits: Limits | None = None,
) -> list[Answer]:
    """What is in a file, in the order of time.

    window: seconds of a window, roughly (see `windows.windows`); None: the whole file is one clip. false_alarm: the
    share of clips of known classes that may be called unknown, 0..1. limits: of the process that decodes the file;
    None: this one does, and what crashes a decoder takes it along.

    A window in which nothing can be decoded is unknown, neither heard nor seen. Raises `MediaError` if all windows are
    so, and `HarkbackError` for a learner without classes.
    """
    if not learner.classes:
        raise HarkbackError("the model knows no class yet", mend="teach it some clips first")
    found = apart(cut, path, window, bare(encoder), limits=limits, about=path)
    with closing(found):
        return _answers(path, found, encoder, learner, calibration, calibration.threshold(false_alarm))


def _answers(
    path: Path,
    told_of: Iterator[Any],
    encoder: Encoder,
    learner: Learner[Any],
    calibration: Calibration,
    bound: float | None,
) -> list[Answer]:
    """told_of: the values of `windows.cut`."""
    spans: list[Window] = [(start, end) for start, end in next(told_of)]
    answers: list[Answer] = []
    failure: MediaError | None = None
    with tqdm(total=len(spans), desc="asking", unit="window", leave=False, delay=1, disable=len(spans) == 1) as bar:
        for span, found in encoded(zip(spans, told_of, strict=True), encoder):
            if isinstance(found, MediaError):
                failure = failure or found
                answers.append(nothing(str(path), span))
            else:
                answers.append(told(str(path), span, found, learner, calibration, bound))
            bar.update()
    if failure is not None and not any(answer.ranking for answer in answers):
        raise failure if failure.where else MediaError(failure.what, where=path)
    return answers


def nothing(file: str, span: Window) -> Answer:
    """About a window in which nothing could be decoded."""
    return Answer(file, *span, None, "", 0.0, (), False, False)


def told(
    file: str,
    span: Window,
    features: Features,
    learner: Learner[Any],
    calibration: Calibration,
    bound: float | None,
) -> Answer:
    """features: one row, the window ``span``; bound: the evidence below which it is unknown, if any is."""
    scores = learner.scores(features)
    (evidence,) = calibration.evidence_of(scores, strangeness(learner, features)).tolist()
    (shares,) = calibration.probabilities(scores).tolist()
    ranking = _ranked(zip(learner.classes, shares, strict=True))
    likeliest, confidence = ranking[0]
    label = likeliest if bound is None or evidence >= bound else None
    there = bool(features.heard[0]), bool(features.seen[0])
    return Answer(file, *span, label, likeliest, confidence, ranking, *there)


def _ranked(shares: Iterator[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """The likeliest classes; of equals the one that came first."""
    return tuple(sorted(shares, key=lambda share: -share[1])[:RANKED])


def merged(answers: Sequence[Answer]) -> list[Answer]:
    """Neighbouring windows of a file with the same verdict become one; those that lack sound or picture stay apart.

    Confidences are means weighted by seconds; a class that a window does not rank counts as 0 there.
    """
    runs: list[list[Answer]] = []
    for answer in answers:
        if runs and _alike(runs[-1][-1], answer):
            runs[-1].append(answer)
        else:
            runs.append([answer])
    return [_one(run) for run in runs]


def _alike(before: Answer, after: Answer) -> bool:
    touching = before.file == after.file and abs(after.start - before.end) <= SAME
    verdicts = [(answer.label, answer.heard, answer.seen) for answer in (before, after)]
    return touching and verdicts[0] == verdicts[1]


def _one(run: Sequence[Answer]) -> Answer:
    if len(run) == 1:
        return run[0]
    seconds = run[-1].end - run[0].start
    shares: dict[str, float] = {}
    for answer in run:
        for name, share in answer.ranking:
            shares[name] = shares.get(name, 0.0) + share * (answer.end - answer.start) / seconds
    ranking = _ranked(iter(shares.items()))
    likeliest, confidence = ranking[0] if ranking else ("", 0.0)
    peak = max(run, key=lambda answer: answer.confidence)
    return replace(
        run[0],
        end=run[-1].end,
        likeliest=likeliest,
        confidence=confidence,
        ranking=ranking,
        surest=peak.surest or (peak.start, peak.end),
    )
