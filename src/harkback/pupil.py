"""A learner with its examiner, its calibration and its history: all that a model's folder holds, in memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.examiner import Examiner
from harkback.features import FeatureRows, Rows
from harkback.learners.base import Learner
from harkback.ledger import Additive, Entries, Ledger, strangeness
from harkback.registry import LEARNERS
from harkback.stream import Session
from harkback.unknown import Calibration, auroc, calibrated

STRANGERS = 200  #: clips of new classes that are asked before they are learnt, at most


@dataclass(slots=True)
class Pupil:
    """Everything about a model but its folder."""

    learner: Learner[Any]
    kind: str  #: the learner's name
    examiner: Examiner
    encoder: dict[str, Any]  #: the encoder's facts
    encoder_key: str
    source: str | None  #: the hub id of the encoder's model, if that is where it came from
    encoder_settings: dict[str, Any]  #: fields of the encoder's ``Settings``
    seed: int
    false_alarm: float
    history: int  #: versions kept to step back to
    records: list[dict[str, Any]] = field(default_factory=list)  #: what was done, session by session
    calibration: Calibration = field(default_factory=Calibration)
    version: int = 0  #: how many changes were committed
    ledger: list[str] = field(default_factory=list)  #: files of what was added to sums, session by session

    @classmethod
    def new(
        cls,
        kind: str,
        settings: Any,
        spec: EncoderSpec,
        *,
        source: str | None = None,
        encoder_settings: dict[str, Any] | None = None,
        memory: int = 200,
        seed: int = 0,
        false_alarm: float = 0.05,
        history: int = 3,
    ) -> Pupil:
        """One that knows nothing yet. settings: of the learner, or None."""
        found = LEARNERS.load(kind)
        if found.cumulative:
            mend = "choose another, such as hark"
            raise HarkbackError(f"{kind} wants every clip it ever learnt, again in each session", mend=mend)
        if not 0 <= seed < 2**63:
            raise HarkbackError(f"{seed} is no seed", where="--seed", mend="give 0 or more, of at most 18 digits")
        learner = found(settings, memory=memory, seed=seed)
        of_encoder = (spec.facts(), spec.key, source, encoder_settings or {})
        return cls(learner, kind, Examiner(learner, seed), *of_encoder, seed, checked_rate(false_alarm), history)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.learner.classes

    def counts(self) -> dict[str, int]:
        """How many clips of each class were learnt."""
        found = dict.fromkeys(self.classes, 0)
        for record in self.records:
            for name, keys in record.get("clips", {}).items():
                if name in found:  # While it is made anew, class by class, not all are known yet.
                    found[name] += len(keys)
        return found

    def learnt(self) -> dict[str, str]:
        """The class of each clip that was learnt, by the hash of its content."""
        return {k: name for record in self.records for name, keys in record.get("clips", {}).items() for k in keys}

    # ---- teaching ----

    def teach(self, rows: FeatureRows, labels: Sequence[str], **more: Any) -> dict[str, Any]:
        """Learn a session and return its record; ids of the rows are the hashes of the clips' contents.

        more: what else the record is to say.
        """
        began = time.perf_counter()
        new = [name for name in dict.fromkeys(labels) if name not in self.classes]
        record: dict[str, Any] = {"did": "teach", "time": datetime.now(UTC).isoformat(timespec="seconds"), **more}
        clips: dict[str, list[str]] = {name: [] for name in labels}
        for key, label in zip(rows.ids, labels, strict=True):
            clips[label].append(key)
        record |= {"clips": clips, "new": new}
        strangers = self._strangers(rows, labels, new)
        before = self.examiner.right()
        self.records.append(record)
        self.learn(rows, labels)
        after = self.examiner.right()
        if strangers is not None:
            record["strangers"] = strangers
        old = [key for key in before if key in after]
        if new != list(self.classes):
            right = sum(before[key] for key in old)
            record["before"] = {"right": right, "asked": len(old), "right_after": sum(after[key] for key in old)}
        record["exam"] = self._marks()
        record["seconds"] = round(time.perf_counter() - began, 3)
        return record

    def learn(self, rows: FeatureRows, labels: Sequence[str]) -> None:
        """Learn clips that the records have already, and be examined."""
        self.learner.ledger = Ledger()
        with Session.of(rows, labels) as session:
            self.learner.learn(session)
        self.examiner.learn(rows, labels, self.learner, self.count_column())
        self.calibration = calibrated(*self.examiner.exam)

    def count_column(self) -> Tensor:
        """(classes,) clips learnt of each."""
        counts = self.counts()
        return torch.tensor([counts[name] for name in self.classes], dtype=torch.long)

    def entries(self) -> Entries:
        """What the last session added to sums: of the learner, and of its examiner's twin."""
        found = Entries()
        for who, learner in (("learner", self.learner), ("twin", self.examiner.twin)):
            if isinstance(learner, Additive) and learner.ledger is not None:
                found.add(who, learner.classes, learner.ledger)
        return found

    def _strangers(self, rows: FeatureRows, labels: Sequence[str], new: Sequence[str]) -> dict[str, Any] | None:
        """How many clips of new classes are called unknown by the model that has not learnt them yet."""
        found = torch.tensor([row for row, label in enumerate(labels) if label in new], dtype=torch.long)
        threshold = self.calibration.threshold(self.false_alarm)
        if not self.classes or not len(found) or threshold is None:
            return None
        if len(found) > STRANGERS:
            found = found[torch.linspace(0, len(found) - 1, STRANGERS).round().long()]
        asked = Rows(rows, found)
        evidence = self.calibration.evidence_of(self.learner.scores(asked), strangeness(self.learner, asked))
        known = torch.tensor(self.calibration.evidence, dtype=torch.float64)
        return {
            "asked": len(found),
            "told": int((evidence < threshold).sum()),
            "auroc": round(auroc(known, evidence), 4),
        }

    def _marks(self) -> dict[str, list[int]]:
        """Of each class that was examined: how many clips were told rightly, and how many were asked."""
        marks: dict[str, list[int]] = {}
        scores, truth, _ = self.examiner.exam
        for right, target in zip(
            (scores.argmax(1) == truth).tolist() if len(truth) else [], truth.tolist(), strict=True
        ):
            mark = marks.setdefault(self.classes[target], [0, 0])
            mark[0] += right
            mark[1] += 1
        return marks


def checked_rate(rate: float) -> float:
    if not 0 < rate < 1:
        raise HarkbackError(f"{rate:g} is no rate", where="--false-alarm", mend="give one above 0 and below 1")
    return rate
