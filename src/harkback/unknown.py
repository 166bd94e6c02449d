"""How sure is it? Probabilities that mean what they say, and "none of these" at a stated false-alarm rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, floor, isfinite, log, nan
from typing import Any, Self

import torch
from torch import Tensor

from harkback.errors import HarkbackError

#: Of a clip whose class may be any: what a few clips that are all right must not talk the temperature out of.
DOUBT = 0.5
VAGUE, SHARP = 0.1, 1e4  #: how many temperatures the scores spread over, at least and at most
HALVINGS = 60  #: of the interval in which the temperature is sought


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a model's scores are worth, learnt from clips of its classes, each asked as if it had not been learnt."""

    temperature: float = 1.0  #: probabilities = softmax(scores / temperature)
    evidence: tuple[float, ...] = ()  #: of those clips, ascending
    #: Mean and deviation of those clips' sureness, then of their strangeness; none: the learner tells no strangeness.
    usual: tuple[float, float, float, float] | None = None

    def probabilities(self, scores: Tensor) -> Tensor:
        """(clips, classes) float64, rows sum to 1. scores: (clips, classes)."""
        return (_checked(scores) / self.temperature).softmax(1)

    def sureness(self, scores: Tensor) -> Tensor:
        """(clips,) float64, 1 - H(p) / log(classes): 0, every class as likely; 1, one class alone.

        H is the entropy of the probabilities. Of what can be read off the scores of any learner, nothing that was tried
        told strangers better (`docs/research.md`, 11). A model of one class has nothing to weigh it against: 1.
        """
        scores = _checked(scores)
        if scores.shape[1] < 2:
            return torch.ones(len(scores), dtype=torch.float64)
        logs = (scores / self.temperature).log_softmax(1)
        sure: Tensor = 1 + (logs.exp() * logs).sum(1) / log(scores.shape[1])
        return sure.clamp(0, 1)

    def evidence_of(self, scores: Tensor, strange: Tensor | None = None) -> Tensor:
        """(clips,) float64, how surely each clip is of a known class, 0..1.

        strange: (clips,) strangeness, of a learner that tells it (`harkback.ledger.LeavesOut`). Then it is how much
        surer and less strange the clip is than the clips of the exam, in their deviations, through a sigmoid; else its
        sureness.
        """
        sure = self.sureness(scores)
        if self.usual is None:
            return sure
        assert strange is not None
        middle, spread, its_middle, its_spread = self.usual
        return ((sure - middle) / spread - (strange.double() - its_middle) / its_spread).sigmoid()

    def threshold(self, false_alarm: float) -> float | None:
        """A clip with less evidence is called unknown; None: too few clips to promise that, so none is.

        Split conformal (Vovk et al. 2005): the k-th lowest of the n clips' evidence, k = floor(false_alarm (n + 1)).
        Among n + 1 clips no more than k lie below the k-th lowest of the n others, so if the clip that is asked might
        as well have been one of the n, it is called unknown with probability k / (n + 1) at most. That the temperature
        was fitted to the n and not to all n + 1 made no difference that could be measured.

        false_alarm: 0..1, 1 excluded; 19 clips are enough for 0.05, 99 for 0.01.
        """
        if not 0 <= false_alarm < 1:
            what = f"a false-alarm rate of {false_alarm:g} cannot be promised"
            raise HarkbackError(what, mend="ask for a share from 0 to below 1, such as 0.05")
        # 0.29 x 100 is 28.999999999999996: a product that should be whole counts as whole.
        k = floor(false_alarm * (len(self.evidence) + 1) + 1e-9)
        return self.evidence[k - 1] if k else None

    def unknown(self, scores: Tensor, false_alarm: float, strange: Tensor | None = None) -> Tensor:
        """(clips,) bool: called none of the classes; false_alarm: as `threshold` takes it."""
        limit = self.threshold(false_alarm)
        evidence = self.evidence_of(scores, strange)
        return torch.zeros(len(scores), dtype=torch.bool) if limit is None else evidence < limit

    def facts(self) -> dict[str, Any]:
        facts = {"temperature": self.temperature, "evidence": list(self.evidence)}
        return facts if self.usual is None else {**facts, "usual": list(self.usual)}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """What `facts` gave, perhaps by way of a file."""
        try:
            usual = None
            if facts.get("usual") is not None:
                sure, its, strange, their = (float(number) for number in facts["usual"])
                usual = sure, its, strange, their
            made = cls(float(facts["temperature"]), tuple(float(number) for number in facts["evidence"]), usual)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged() from error
        whole = made.temperature > 0 and all(map(isfinite, (made.temperature, *made.evidence, *(made.usual or ()))))
        told = made.usual is None or (made.usual[1] > 0 and made.usual[3] > 0)
        if not whole or not told or list(made.evidence) != sorted(made.evidence):
            raise _damaged()
        return made


def calibrated(scores: Tensor, truth: Tensor, strange: Tensor | None = None) -> Calibration:
    """Fit to clips of the known classes, each asked as if it had not been learnt.

    scores: (clips, classes) float32, finite; truth: (clips,) long; strange: (clips,), or None of a learner that does
    not tell it. The temperature is where the clips' classes are likeliest (Guo et al., ICML 2017, arXiv 1706.04599),
    with half a clip besides whose class may be any: three clips that are all right would else ask for a temperature of
    zero. It goes with the scores' own spread, so it is as good
    for regressions as for logits. Where nothing can be fitted (no clip, one class, scores all alike) it is 1, at which
    logits mean what they say, and scores of regressions and cosines sound less sure than they are.
    """
    scores = _checked(scores)
    fitted = Calibration(_temperature(scores, truth))
    if strange is not None:
        fitted = replace(fitted, usual=(*_usual(fitted.sureness(scores)), *_usual(_checked(strange))))
    return replace(fitted, evidence=tuple(sorted(fitted.evidence_of(scores, strange).tolist())))


def _usual(numbers: Tensor) -> tuple[float, float]:
    """Mean and deviation; 1 where nothing deviates, or nothing is there."""
    if not len(numbers):
        return 0.0, 1.0
    spread = float(numbers.std(correction=0))
    return float(numbers.mean()), spread if spread > 1e-9 else 1.0


def _temperature(scores: Tensor, truth: Tensor) -> float:
    """scores: (clips, classes) float64; truth: (clips,) long."""
    clips, classes = scores.shape
    if not clips or classes < 2:
        return 1.0
    away = scores - scores.mean(1, keepdim=True)
    spread = float(away.square().mean().sqrt())
    if spread <= 1e-6 * float(scores.abs().max()):  # The rounding of float32 is no difference.
        return 1.0
    away = away / spread
    # The half clip should be of every class alike, whose mean is 0: it adds to the clips and to nothing else.
    wanted = float(away.gather(1, truth[:, None]).sum()) / (clips + DOUBT)
    low, high = log(VAGUE), log(SHARP)
    for _ in range(HALVINGS):  # The loss is convex in 1 / temperature: where its slope turns positive, it is least.
        middle = (low + high) / 2
        slope = float(((exp(middle) * away).softmax(1) * away).sum(1).mean()) - wanted
        low, high = (low, middle) if slope > 0 else (middle, high)
    return spread / exp(low)


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose confidence lies in an interval, and how many of them were right."""

    low: float  #: excluded, but for 0
    high: float
    clips: int
    confidence: float  #: mean of the clips'; NaN: there are none
    right: float  #: share of the clips; NaN: there are none


def reliability(confidence: Tensor, right: Tensor, bins: int = 10) -> tuple[Bin, ...]:
    """Answers by confidence, in intervals of equal width. confidence: (clips,) 0..1; right: (clips,) bool."""
    confidence = confidence.double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    found = []
    for k in range(bins):
        mine = place == k  # The mean of none is NaN.
        means = float(confidence[mine].mean()), float(right[mine].double().mean())
        found.append(Bin(k / bins, (k + 1) / bins, int(mine.sum()), *means))
    return tuple(found)


def ece(bins: Sequence[Bin]) -> float:
    """Expected calibration error: sum of clips / n |right - confidence| over the bins (Naeini et al., AAAI 2015).

    0..1; NaN where no clip was asked.
    """
    total = sum(each.clips for each in bins)
    return sum(each.clips * abs(each.right - each.confidence) for each in bins if each.clips) / total if total else nan


def auroc(known: Tensor, strangers: Tensor) -> float:
    """How often a clip of a known class has more evidence than one of no known class; equal counts half.

    (clips,) and (clips,) of evidence -> 0..1, 0.5: chance; NaN if either has no clips.
    """
    if not len(known) or not len(strangers):
        return nan
    ranked, strangers = known.double().sort().values, strangers.double()
    less, not_more = (torch.searchsorted(ranked, strangers, right=right) for right in (False, True))
    return 1 - float((less + not_more).double().mean()) / (2 * len(known))


@dataclass(frozen=True, slots=True)
class Examined:
    """An exam, each clip judged by a calibration that was fitted to others."""

    asked: int
    accuracy: float  #: share of the clips whose highest score is their class's; NaN: none was asked
    bins: tuple[Bin, ...]
    ece: float
    false_alarm: float | None  #: share of the clips that were called unknown; None: too few to promise a rate


def examined(
    scores: Tensor, truth: Tensor, false_alarm: float, folds: int = 5, *, strange: Tensor | None = None
) -> Examined:
    """What confidences are worth, and the false-alarm rate that is reached, on clips that had no say in either.

    scores: (clips, classes), truth and strange: (clips,), as `calibrated` takes them; each class is spread evenly over
    the folds, and a fold is judged by what the others say: by fewer clips than a model is calibrated with.
    """
    scores, clips = _checked(scores), len(scores)
    fold = torch.empty(clips, dtype=torch.long)
    fold[truth.argsort(stable=True)] = torch.arange(clips) % folds
    confidence = torch.zeros(clips, dtype=torch.float64)
    called = torch.zeros(clips, dtype=torch.bool)
    promised = clips > 0
    for k in fold.unique().tolist():
        mine = fold == k
        others = calibrated(scores[~mine], truth[~mine], None if strange is None else strange[~mine])
        confidence[mine] = others.probabilities(scores[mine]).amax(1)
        called[mine] = others.unknown(scores[mine], false_alarm, None if strange is None else strange[mine])
        promised = promised and others.threshold(false_alarm) is not None
    right = scores.argmax(1) == truth if clips else called
    bins = reliability(confidence, right)
    rate = float(called.double().mean()) if promised else None
    return Examined(clips, float(right.double().mean()), bins, ece(bins), rate)


def _checked(scores: Tensor) -> Tensor:
    """In float64: what is compared must not be rounding."""
    if not scores.isfinite().all():
        raise HarkbackError("the learner's scores are not finite", mend="check the features, or lower its rate")
    return scores.double()


def _damaged() -> HarkbackError:
    return HarkbackError("the model's calibration is damaged", mend="undo the last change, or restore the folder")
