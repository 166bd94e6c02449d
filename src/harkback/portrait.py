"""A model's portrait: one page of what it knows, how sure it is, and what it takes for unknown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, nan
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from harkback import formats
from harkback.errors import HarkbackError
from harkback.files import whole
from harkback.report import EXTRA
from harkback.unknown import Calibration, Examined, examined

NAMED = 6  #: new classes that a session's line names


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with Wilson's 95 % interval; NaN of none."""

    of: int
    asked: int
    low: float
    high: float

    @classmethod
    def counted(cls, of: int, asked: int) -> Share:
        if not asked:
            return cls(0, 0, nan, nan)
        interval = stats.binomtest(of, asked).proportion_ci(method="wilson")
        return cls(of, asked, float(interval.low), float(interval.high))

    @property
    def value(self) -> float:
        return self.of / self.asked if self.asked else nan

    @property
    def interval(self) -> str:
        """In percent."""
        return f"{formats.percent(self.low)} to {formats.percent(self.high)}" if self.asked else formats.DASH

    @property
    def counts(self) -> str:
        return f"{self.of} of {self.asked}"


@dataclass(frozen=True, slots=True)
class Known:
    """A class: the clips it was learnt from, and how many of those that were asked were told rightly."""

    name: str
    clips: int
    right: Share


@dataclass(frozen=True, slots=True)
class Lesson:
    """A record of the model's history."""

    number: int
    when: str
    forgot: int  #: classes that were forgotten; 0: it was taught
    clips: int
    skipped: int
    new: tuple[str, ...]
    seconds: float
    right: Share  #: all clips that were asked after it
    before: Share  #: of old classes, before it
    after: Share  #: of the same clips, after it
    strangers: Share  #: clips of classes it had not met, and how many were called unknown
    auroc: float

    @property
    def what(self) -> str:
        if self.forgot:
            return f"forgot {formats.count(self.forgot, 'class', 'classes')}"
        if not self.clips:
            return "learnt what was forgotten since"
        return f"{'learnt' if self.new else 'practised'} {formats.count(self.clips, 'clip')}"


@dataclass(frozen=True, slots=True)
class Sitter:
    """All that the page says of a model."""

    facts: Mapping[str, Any]  #: model.json
    classes: tuple[Known, ...]
    lessons: tuple[Lesson, ...]
    exam: Examined
    right: Share
    calibration: Calibration
    threshold: float | None
    confusion: Tensor  #: (classes, classes) counts, by the true class and what was said

    @property
    def promised(self) -> float:
        """The false-alarm rate that was asked for."""
        return float(self.facts["false_alarm"])

    @property
    def alarms(self) -> Share | None:
        """Known clips that others would have had called unknown; None: too few to promise a rate."""
        rate = self.exam.false_alarm
        return None if rate is None else Share.counted(round(rate * self.exam.asked), self.exam.asked)

    @property
    def strangers(self) -> Share:
        """Over all sessions."""
        met = [lesson.strangers for lesson in self.lessons]
        return Share.counted(sum(share.of for share in met), sum(share.asked for share in met))

    @property
    def needed(self) -> int:
        """Clips that are enough to promise the false-alarm rate."""
        return ceil(1 / self.promised - 1e-9) - 1


def portrait(
    facts: Mapping[str, Any], scores: Tensor, truth: Tensor, out: Path, *, strange: Tensor | None = None
) -> Path:
    """Write the page to the file ``out`` and return it; it needs nothing else: no network, no script, no font.

    facts: model.json. scores: (clips, classes) of the clips of the last exam, each asked as if it had not been learnt;
    truth: (clips,) long, their classes; strange: (clips,), if the learner tells it. Raises `HarkbackError` if the extra
    "report" is not installed.
    """
    try:
        from harkback.portrait_page import render
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        what = f"a page with pictures needs {missing}, which is not installed"
        raise HarkbackError(what, mend='pip install "harkback[report]"') from error
    text = render(sitter(facts, scores, truth, strange))
    with whole(out) as temporary:
        # A folder's name, which a model goes by, may hold bytes that are no text.
        temporary.write_text(text, encoding="utf-8", errors="replace")
    return out


def sitter(facts: Mapping[str, Any], scores: Tensor, truth: Tensor, strange: Tensor | None = None) -> Sitter:
    """The numbers of the page; arguments as `portrait` takes them."""
    names: Sequence[str] = facts["classes"]
    confusion = torch.zeros(len(names), len(names), dtype=torch.long)
    if len(truth):
        confusion.index_put_((truth, scores.argmax(1)), torch.ones_like(truth), accumulate=True)
    taught = [record["clips"] for record in facts["sessions"] if record["did"] == "teach"]
    classes = tuple(
        Known(
            name,
            sum(len(clips.get(name, ())) for clips in taught),
            Share.counted(int(confusion[i, i]), int(confusion[i].sum())),
        )
        for i, name in enumerate(names)
    )
    calibration = Calibration.from_facts(facts["calibration"])
    return Sitter(
        facts,
        classes,
        tuple(_lesson(number, record) for number, record in enumerate(facts["sessions"], 1)),
        examined(scores, truth, facts["false_alarm"], strange=strange),
        Share.counted(int(confusion.diagonal().sum()), len(truth)),
        calibration,
        calibration.threshold(facts["false_alarm"]),
        confusion,
    )


def _lesson(number: int, record: Mapping[str, Any]) -> Lesson:
    """What a record does not say was not asked."""
    exam = record.get("exam", {}).values()
    old, strangers = record.get("before"), record.get("strangers")
    return Lesson(
        number,
        _time(record["time"]),
        record["classes"] if record["did"] == "forget" else 0,
        sum(len(clips) for clips in record.get("clips", {}).values()),
        record.get("skipped", 0),
        tuple(record.get("new", ())),
        record.get("seconds", 0.0),
        Share.counted(sum(right for right, _ in exam), sum(asked for _, asked in exam)),
        Share.counted(old["right"], old["asked"]) if old else Share.counted(0, 0),
        Share.counted(old["right_after"], old["asked"]) if old else Share.counted(0, 0),
        Share.counted(strangers["told"], strangers["asked"]) if strangers else Share.counted(0, 0),
        strangers["auroc"] if strangers else nan,
    )


def _time(text: str) -> str:
    """2026-11-23T03:20:00+00:00 -> 2026-11-23 03:20 UTC"""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text


def verdict(of: Sitter) -> str:
    """The portrait in a paragraph."""
    clips = formats.count(sum(known.clips for known in of.classes), "clip")
    sessions = formats.count(sum(not lesson.forgot for lesson in of.lessons), "session")
    text = f"It knows {formats.count(len(of.classes), 'class', 'classes')}, from {clips} in {sessions}."
    if of.right.asked:
        text += (
            f" Asked {formats.count(of.right.asked, 'clip')} as if it had not learnt them, it was right "
            f"{of.right.of} times: {formats.percent(of.right.value)} %."
        )
    strangers = of.strangers
    if strangers.asked:
        met = formats.count(strangers.asked, "clip")
        text += f" Of {met} of classes it had not met yet it called {strangers.of} unknown."
    return text


def promise(of: Sitter) -> str:
    """What was asked of the false-alarm rate, and what came of it."""
    rate, asked = f"{100 * of.promised:g} %", len(of.calibration.evidence)
    if len(of.classes) < 2:
        return "Nothing is unknown to a model of one class: it has nothing to weigh that class against."
    if of.threshold is None:
        return (
            f"No more than {rate} of the clips of known classes may be called unknown. To promise that takes "
            f"{formats.count(of.needed, 'clip')} that can be asked, and there "
            f"{'is' if asked == 1 else 'are'} {asked}: until then nothing is called unknown."
        )
    text = f"No more than {rate} of the clips of known classes may be called unknown: those with less evidence than "
    text += f"{of.threshold:.3f}, which {formats.count(asked, 'clip')} that were asked have set."
    if of.alarms is None:
        return f"{text} They are too few to check it on some by the others."
    return (
        f"{text} Judged each by the others, {of.alarms.counts} were: {formats.percent(of.alarms.value)} % "
        f"({of.alarms.interval})."
    )


def settings(of: Sitter) -> str:
    """How the model was made, as JSON: nothing of its clips, and no path."""
    kept = {name: of.facts[name] for name in ("harkback", "learner", "encoder", "encoder_key", "false_alarm")}
    kept["calibration"] = {"temperature": of.calibration.temperature, "clips": len(of.calibration.evidence)}
    return json.dumps(kept, indent=1, ensure_ascii=False)
