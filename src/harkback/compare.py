"""Is a difference real? Each learner against one reference, on the same test clips and in the same runs.

A difference of two accuracies is uncertain for two reasons: other runs (seeds, class orders) and other test clips would
give another. A difference D over runs has the 95 % interval D ± sqrt( h_runs^2 + h_clips^2 ), where

* h_runs is Student's half-width over the runs' differences, as ± is everywhere in the report (`metrics.spread`);
* h_clips is Student's half-width of what all runs share: the covariance between two runs' differences when the clips
  are resampled, the same draw for all runs and for both learners (a bootstrap of paired clips).

Noise of a single run, or of a clip in a single run, is in h_runs alone, so nothing counts twice: with effects of runs
(variance A), of clips (B) and noise (E), the mean over R runs on n clips has the variance (A + E / n) / R + B / n.
Half-widths of two sources add as squares (Howe, JASA 69, 1974). That keeps its promise with two or three runs, where
resampling the runs promises too much: it knows nothing of Student's tails, and three runs vary by a third less about
their own mean than about the truth. p is the level at which the interval touches 0. With a single run there is no
h_runs: the interval speaks of that run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from harkback import metrics
from harkback.errors import HarkbackError
from harkback.metrics import Answered, Array
from harkback.results import Results, Told

DRAWS = 2000  #: resamplings of the clips: the half-width is known to 1.6 % of itself
SEED = 20260610  #: of the resampling: the same log gives the same numbers
SURE = 0.05  #: a difference with a smaller p, after Holm's correction, is called real


@dataclass(frozen=True, slots=True)
class Difference:
    """A learner's accuracy less the reference's, as shares, -1..1."""

    value: float
    low: float  #: of the 95 % interval
    high: float
    p: float
    p_holm: float  #: after Holm's correction over all learners that were compared

    @property
    def real(self) -> bool:
        return self.p_holm < SURE


@dataclass(frozen=True, slots=True)
class Comparison:
    """A learner against the reference."""

    reference: str
    runs: int  #: pairs of runs with the same seed, class order and clips
    units: int  #: how many independent ones: class orders, or runs if all have one order
    final: Difference  #: of the accuracy after the last session
    mean: Difference  #: of the mean accuracy over sessions
    only: tuple[int, int] | None  #: of a single run: final clips that the learner alone had right, and the reference

    def facts(self) -> dict[str, Any]:
        """For the JSON."""
        found: dict[str, Any] = {"reference": self.reference, "runs": self.runs, "units": self.units}
        for prefix, of in (("", self.final), ("mean_", self.mean)):
            found[f"difference_{prefix.rstrip('_') or 'final'}"] = of.value
            found |= {f"{prefix}ci": [of.low, of.high], f"{prefix}p": of.p, f"{prefix}p_holm": of.p_holm}
            found[f"{prefix}real"] = of.real
        return {
            **found,
            "final_test": "mcnemar" if self.only else "student",
            "only_right": list(self.only) if self.only else None,
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """All comparisons of a bench."""

    reference: Results | None  #: None: there is nothing to compare
    named_by: Literal["bench", "report", "nobody"]  #: nobody: the most accurate was taken, after looking
    by_learner: dict[str, Comparison | None]  #: None: the reference itself, or no run in common with it

    @property
    def number(self) -> int:
        """Of learners that were compared."""
        return sum(comparison is not None for comparison in self.by_learner.values())


def compare(told: Told, reference: str | None = None) -> Compared:
    """Every learner against the one called ``reference``; else the bench's own; else the most accurate incremental."""
    named = told.facts.get("reference")
    wanted = reference or named
    known = {results.learner: results for results in told.learners}
    if wanted is not None and wanted not in known:
        raise HarkbackError(
            f'there is no learner "{wanted}" in this bench to compare with', mend=f"choose from {', '.join(known)}"
        )
    best = known[wanted] if wanted is not None else next(iter(told.incremental), None)
    by: Literal["bench", "report", "nobody"] = "bench" if wanted is not None and wanted == named else "report"
    by = "nobody" if wanted is None else by
    if best is None or not best.runs:
        return Compared(best, by, dict.fromkeys(known))
    clips = 1 + max(int(answered.rows.max(initial=0)) for log in best.answers for answered in log)
    weights = draws(clips + 2)
    found = {r.learner: None if r is best else _compared(r, best, weights) for r in told.learners}
    return Compared(best, by, _corrected(found))


def draws(clips: int, number: int = DRAWS) -> NDArray[np.float32]:
    """Weights of resampled clips, each row summing to 1. (number, clips)

    Dirichlet's, with 1 - 2 / n for all n clips: as the bootstrap of Rubin (1981), but a weighted mean scatters with the
    variance s^2 / n exactly, not (n - 1) / (n + 1) of it, and no clip is ever lost.
    """
    raw = np.random.default_rng(SEED).standard_gamma(1 - 2 / clips, (number, clips), dtype=np.float32)
    weights: NDArray[np.float32] = raw / raw.sum(1, keepdims=True)
    return weights


def _compared(one: Results, other: Results, weights: NDArray[np.float32]) -> Comparison | None:
    pairs = _pairs(one, other)
    if not pairs:
        return None
    mine, theirs = ([r.answers[pair[k]] for pair in pairs] for k, r in enumerate((one, other)))
    orders = [other.runs[k].order for _, k in pairs]
    final, mean = differences(mine, theirs, orders, weights)
    only = None
    if len(pairs) == 1:
        only, p = mcnemar(mine[0][-1], theirs[0][-1])
        final = replace(final, p=p)
    return Comparison(other.learner, len(pairs), len(set(metrics.units(len(pairs), orders))), final, mean, only)


def _pairs(one: Results, other: Results) -> list[tuple[int, int]]:
    """Which runs of the two had the same seed and class order, and were asked of the same clips."""
    theirs = {(run.seed, run.order): k for k, run in enumerate(other.runs)}
    found = [(i, theirs[run.seed, run.order]) for i, run in enumerate(one.runs) if (run.seed, run.order) in theirs]
    return [(i, k) for i, k in found if _same_clips(one.answers[i], other.answers[k])]


def _same_clips(one: Sequence[Answered], other: Sequence[Answered]) -> bool:
    return all(np.array_equal(a.rows, b.rows) for a, b in zip(one, other, strict=True))


def differences(
    mine: Sequence[Sequence[Answered]],
    theirs: Sequence[Sequence[Answered]],
    orders: Sequence[object],
    weights: NDArray[np.float32],
) -> tuple[Difference, Difference]:
    """Of final and of mean accuracy, over runs [run][session] that belong together; uncorrected.

    weights: as `draws` gives them, for all clips and two more that were never asked: on one of them the learner alone
    is right, on the other the reference (Bonett & Price, J. Educ. Behav. Stat. 37, 2012). Without these, learners that
    differ on every clip alike would differ beyond doubt, were there but three clips.
    """
    clips = weights.shape[1] - 2
    asked = weights @ _table(mine, clips, lambda _: True, (1.0, 1.0))
    right = weights @ _table(mine, clips, lambda a: a.said == a.truth, (1.0, 0.0))
    right -= weights @ _table(theirs, clips, lambda a: a.said == a.truth, (0.0, 1.0))
    drawn = (right / asked).reshape(len(weights), len(mine), -1)  # (draws, runs, sessions)
    curves = [np.array([metrics.accuracy_per_session(log) for log in of]) for of in (mine, theirs)]
    away = curves[0] - curves[1]  # (runs, sessions)
    groups = metrics.units(len(mine), orders)
    return (
        _difference(away[:, -1], drawn[:, :, -1], groups, clips),
        _difference(away.mean(1), drawn.mean(2), groups, clips),
    )


def _table(
    logs: Sequence[Sequence[Answered]],
    clips: int,
    what: Callable[[Answered], NDArray[np.bool_] | bool],
    more: tuple[float, float],
) -> NDArray[np.float32]:
    """A column for each session of each run: `what` holds of which clips; 0 where a clip was not asked.

    more: of the two made-up clips. (clips + 2, runs * sessions)
    """
    columns = [answered for log in logs for answered in log]
    table = np.zeros((clips + 2, len(columns)), dtype=np.float32)
    table[clips:] = np.array(more, dtype=np.float32)[:, None]
    for k, answered in enumerate(columns):
        table[answered.rows, k] = what(answered)
    return table


def _difference(values: Array, drawn: Array, groups: Sequence[int], clips: int) -> Difference:
    """values: (runs,); drawn: (draws, runs), of resampled clips; groups: of each run, its independent unit."""
    value = float(np.mean(values))
    variance, freedom = metrics.spread(list(values), groups)
    together = np.array([drawn[:, [g == group for g in groups]].sum(1) / len(values) for group in sorted(set(groups))])
    covariance = np.atleast_2d(np.cov(together))  # Of the units' shares of the mean; (units, units)
    if freedom:
        sizes = np.bincount(groups) / len(groups)
        apart = 1 - np.eye(len(sizes))  # Between two units there is nothing but the clips they share.
        shared = max(0.0, float((covariance * apart).sum() / (np.outer(sizes, sizes) * apart).sum()))
        parts = [(variance, freedom), (shared, max(clips - 1, 1))]
    else:
        parts = [(float(covariance[0, 0]), max(clips - 1, 1))]
    half, level = _half(parts, SURE), _level(value, parts)
    return Difference(value, max(value - half, -1.0), min(value + half, 1.0), level, level)


def _half(parts: Sequence[tuple[float, int]], level: float) -> float:
    """Half-widths of several (variance, degrees of freedom) at a level, added as squares."""
    return float(np.sqrt(sum(special.stdtrit(freedom, level / 2) ** 2 * variance for variance, freedom in parts)))


def _level(value: float, parts: Sequence[tuple[float, int]]) -> float:
    """The level at which the interval just touches 0: by halving, since the half-width falls as the level grows."""
    low, high = 1e-12, 1.0
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if _half(parts, middle) > abs(value) else (low, middle)
    return high


def mcnemar(one: Answered, other: Answered) -> tuple[tuple[int, int], float]:
    """((clips that only one had right, that only the other had), p) of McNemar's exact test, two-sided.

    Under the null each such clip falls to either side like a coin (Psychometrika 12, 1947).
    """
    mine, theirs = one.said == one.truth, other.said == other.truth
    only = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    return only, float(stats.binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0


def holm(levels: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of calling any one difference real by mistake stays (Holm, 1979)."""
    order = np.argsort(levels, kind="stable")
    corrected = [0.0] * len(levels)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(levels) - rank) * levels[i]))
        corrected[i] = highest
    return corrected


def _corrected(found: dict[str, Comparison | None]) -> dict[str, Comparison | None]:
    """Final and mean accuracy each on its own: they are two questions, not two tries at one."""
    some = {name: comparison for name, comparison in found.items() if comparison is not None}
    finals, means = (holm([getattr(c, of).p for c in some.values()]) for of in ("final", "mean"))
    done = {
        name: replace(c, final=replace(c.final, p_holm=final), mean=replace(c.mean, p_holm=mean))
        for (name, c), final, mean in zip(some.items(), finals, means, strict=True)
    }
    return {name: done.get(name) for name in found}
