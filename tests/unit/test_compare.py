"""Comparisons: against formulas, hand counts and simulated benches in which the truth is known."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from harkback.compare import Comparison, Difference, compare, differences, draws, holm, mcnemar
from harkback.errors import HarkbackError
from harkback.log import Run
from harkback.metrics import Answered, final_accuracy, mean_accuracy
from harkback.results import Results, Told

Right = NDArray[np.bool_]


def answered(right: Right, rows: list[int] | None = None) -> Answered:
    """right: of each clip that is asked, whether the answer is."""
    truth = np.zeros(len(right), dtype=np.int64)
    return Answered(np.arange(len(right)) if rows is None else np.array(rows), truth, (~right).astype(np.int64), truth)


def one_session(runs: Right) -> list[list[Answered]]:
    """runs: (runs, clips)"""
    return [[answered(right)] for right in runs]


def results(
    name: str, logs: list[list[Answered]], pairs: list[tuple[int, int | str]], cumulative: bool = False
) -> Results:
    runs = tuple(Run(Path(name), name, seed, order) for seed, order in pairs)
    return Results(name, None, None, cumulative, runs, tuple(logs), tuple([] for _ in runs))


def told(*learners: Results, reference: str | None = None) -> Told:
    return Told({"reference": reference}, learners, ())


def analytic(d: NDArray[np.float64], weight: int = 1) -> float:
    """Bonett and Price's standard error of a mean of paired differences, from the counts. d: (clips,)"""
    n, won, lost = len(d), (d > 0).sum() + 1, (d < 0).sum() + 1
    return math.sqrt((won + lost) / (n + 2) - ((won - lost) / (n + 2)) ** 2) / math.sqrt(n + 2)


# The parts.


def test_mcnemar_is_a_coin_for_each_clip_that_differs() -> None:
    one = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 0], dtype=bool)
    other = np.array([0, 0, 0, 0, 0, 1, 1, 1, 0, 0], dtype=bool)
    # 5 against 1: both tails hold (1 + 6) of 64 ways each.
    assert mcnemar(answered(one), answered(other)) == ((5, 1), pytest.approx(14 / 64))
    assert mcnemar(answered(other), answered(one)) == ((1, 5), pytest.approx(14 / 64))
    assert mcnemar(answered(one), answered(one)) == ((0, 0), 1.0)
    assert mcnemar(answered(one[:5]), answered(other[:5])) == ((5, 0), pytest.approx(2 / 32))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@pytest.mark.parametrize("clips", [3, 4, 30, 500])
def test_a_mean_of_resampled_clips_scatters_as_means_do(clips: int) -> None:
    weights = draws(clips, 20000)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    values = np.random.default_rng(clips).normal(3, 2, clips)
    means = weights.astype(np.float64) @ values
    assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / math.sqrt(clips * 20000))
    assert means.var() == pytest.approx(values.var(ddof=1) / clips, rel=0.06)
    np.testing.assert_array_equal(weights, draws(clips, 20000))


# One run: only clips are left to chance.


def test_one_run_against_the_formula() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.random((1, 400)) < 0.8, rng.random((1, 400)) < 0.7
    final, mean = differences(one_session(one), one_session(other), [0], draws(402))
    d = one[0].astype(float) - other[0]
    half = stats.t.ppf(0.975, 399) * analytic(d)
    assert final.value == mean.value == pytest.approx(d.mean())
    assert final.high - final.value == pytest.approx(half, rel=0.05)
    assert final.value - final.low == pytest.approx(half, rel=0.05)
    assert final.p == pytest.approx(2 * stats.t.sf(abs(d.mean()) / analytic(d), 399), rel=0.3)
    backwards, _ = differences(one_session(other), one_session(one), [0], draws(402))
    assert (backwards.value, backwards.low, backwards.high) == pytest.approx(
        (-final.value, -final.high, -final.low), abs=0.001
    )


def test_few_clips_are_never_proof() -> None:
    """Three clips of three: the difference is 1, and its variance in the sample 0."""
    right = np.ones((2, 3), dtype=bool)
    final, _ = differences(one_session(right), one_session(~right), [0, 1], draws(5))
    assert final.value == 1.0
    assert final.p > 0.05 and final.low < 0 and final.high == 1.0
    many = np.ones((2, 60), dtype=bool)
    assert differences(one_session(many), one_session(~many), [0, 1], draws(62))[0].p < 0.001


def test_equal_answers_are_no_difference() -> None:
    right = np.random.default_rng(0).random((3, 50)) < 0.5
    final, mean = differences(one_session(right), one_session(right), [0, 1, 2], draws(52))
    assert final.value == mean.value == 0 and final.p == mean.p == 1.0
    assert final.low == pytest.approx(-final.high) and final.high > 0


def test_mean_accuracy_against_the_delta_method() -> None:
    """Three sessions of 20, 30 and 70 clips, asked of all so far: first-order influence of each clip, by hand."""
    rng = np.random.default_rng(5)
    asked = [20, 50, 120]
    one, other = ([rng.random(n) < p for n in asked] for p in (0.75, 0.6))
    _, mean = differences([[answered(r) for r in one]], [[answered(r) for r in other]], [0], draws(122))
    influence = np.zeros(122)
    value = 0.0
    for mine, theirs in zip(one, other, strict=True):
        d = mine.astype(float) - theirs
        value += d.mean() / 3
        padded = np.concatenate([d, [1.0, -1.0]])
        rows = np.concatenate([np.arange(len(d)), [120, 121]])
        influence[rows] += (padded - padded.mean()) / len(padded) / 3
    half = stats.t.ppf(0.975, 119) * math.sqrt(122 / 121 * (influence**2).sum())
    assert mean.value == pytest.approx(value)
    assert (mean.high - mean.low) / 2 == pytest.approx(half, rel=0.06)


# Several runs.


def test_runs_that_answer_alike_are_worth_one() -> None:
    """Learners that depend on neither seed nor order: nine runs know no more of the clips than one."""
    rng = np.random.default_rng(4)
    one, other = rng.random((1, 300)) < 0.8, rng.random((1, 300)) < 0.74
    weights = draws(302)
    once, _ = differences(one_session(one), one_session(other), [0], weights)
    often, _ = differences(one_session(one.repeat(9, 0)), one_session(other.repeat(9, 0)), list(range(9)), weights)
    assert (often.low, often.high, often.p) == pytest.approx((once.low, once.high, once.p), rel=1e-4)


def test_runs_and_clips_add_up_as_squares() -> None:
    rng = np.random.default_rng(8)
    taste = rng.normal(0, 0.4, (1, 500))
    one = rng.random((4, 500)) < 0.7 + 0.2 * taste
    other = rng.random((4, 500)) < 0.66
    final, _ = differences(one_session(one), one_session(other), [0, 1, 2, 3], draws(502))
    d = one.astype(float) - other
    padded = np.concatenate([d, np.ones((4, 1)), -np.ones((4, 1))], 1)
    between = np.cov(padded) / 502
    shared = max(0.0, (between.sum() - np.trace(between)) / 12)
    runs = d.mean(1).var(ddof=1) / 4
    half = math.sqrt(stats.t.ppf(0.975, 3) ** 2 * runs + stats.t.ppf(0.975, 499) ** 2 * shared)
    assert (final.high - final.low) / 2 == pytest.approx(half, rel=0.03)
    # At the level p the interval touches 0.
    touching = stats.t.isf(final.p / 2, 3) ** 2 * runs + stats.t.isf(final.p / 2, 499) ** 2 * shared
    assert math.sqrt(touching) == pytest.approx(abs(final.value), rel=0.03)


def test_seeds_on_one_order_are_not_independent_runs() -> None:
    """Three orders whose seeds agree: as sure as three runs, not as nine."""
    rng = np.random.default_rng(9)
    one, other = (rng.random((3, 200)) < np.array([[0.9], [0.8], [0.7]]), rng.random((3, 200)) < 0.6)
    weights = draws(202)
    three, _ = differences(one_session(one), one_session(other), ["avcil-2023", 1, 2], weights)
    nine = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    orders = ["avcil-2023" if n == 0 else n for n in nine]
    clustered, _ = differences(one_session(one[nine]), one_session(other[nine]), orders, weights)
    assert (clustered.low, clustered.high) == pytest.approx((three.low, three.high), rel=1e-3)
    naive, _ = differences(one_session(one[nine]), one_session(other[nine]), list(range(9)), weights)
    assert naive.high - naive.low < 0.6 * (clustered.high - clustered.low)


# Whole benches.


def test_pairs_are_runs_of_the_same_seed_and_order() -> None:
    right = np.random.default_rng(1).random((4, 40)) < 0.7
    reference = results("l3", one_session(right), [(0, 0), (1, 1), (0, "own"), (1, 0)])
    some = results("some", one_session(right[[2, 0, 1]]), [(0, "own"), (0, 0), (5, 5)])
    none = results("none", one_session(~right[:1]), [(7, 7)])
    unrun = results("unrun", [], [])
    elsewhere = [[answered(right[0], list(range(1, 41)))]]
    other_clips = results("other clips", elsewhere, [(0, 0)])
    found = compare(told(reference, some, none, unrun, other_clips), "l3")
    assert found.reference is reference and found.named_by == "report"
    of = found.by_learner["some"]
    assert of is not None and (of.runs, of.units, of.reference) == (2, 2, "l3")
    assert of.final.value == 0 and of.only is None
    assert [name for name, c in found.by_learner.items() if c is None] == ["l3", "none", "unrun", "other clips"]
    assert found.number == 1


def test_who_is_the_reference() -> None:
    weak, strong = np.zeros((1, 8), dtype=bool), np.ones((1, 8), dtype=bool)
    learners = (
        results("joint", one_session(strong), [(0, 0)], cumulative=True),
        results("weak", one_session(weak), [(0, 0)]),
        results("strong", one_session(strong), [(0, 0)]),
    )
    for chosen, of_bench, expected in (
        (None, None, ("strong", "nobody")),  # The most accurate, and no ceiling.
        (None, "weak", ("weak", "bench")),
        ("strong", "weak", ("strong", "report")),
        ("weak", "weak", ("weak", "bench")),
        ("joint", None, ("joint", "report")),
    ):
        found = compare(told(*learners, reference=of_bench), chosen)
        assert found.reference is not None
        assert (found.reference.learner, found.named_by) == expected
        assert [name for name, c in found.by_learner.items() if c is None] == [expected[0]]
    with pytest.raises(HarkbackError, match=r'"l4".*joint, weak, strong'):
        compare(told(*learners), "l4")
    with pytest.raises(HarkbackError, match=r'"l4".*joint, weak, strong'):
        compare(told(*learners, reference="l4"))


def test_nothing_to_compare() -> None:
    ceiling = results("joint", one_session(np.ones((1, 4), dtype=bool)), [(0, 0)], cumulative=True)
    assert compare(told(ceiling)).reference is None
    assert compare(told(results("begun", [], []))).by_learner == {"begun": None}
    found = compare(told(results("begun", [], []), ceiling), "begun")
    assert found.reference is not None and found.by_learner == {"begun": None, "joint": None}


def test_a_single_run_is_tested_by_mcnemar_and_all_are_corrected_together() -> None:
    base = np.array([1] * 20 + [0] * 20, dtype=bool)
    better, worse = base.copy(), base.copy()
    better[20:26] = True  # 6 against 0: p = 2 / 64
    worse[:3] = False  # 0 against 3: p = 2 / 8
    learners = [results(n, one_session(r[None]), [(0, 0)]) for n, r in (("r", base), ("b", better), ("w", worse))]
    found = compare(told(*learners), "r").by_learner
    b, w = found["b"], found["w"]
    assert b is not None and w is not None
    assert (b.only, w.only) == ((6, 0), (0, 3))
    assert (b.final.p, w.final.p) == (pytest.approx(2 / 64), pytest.approx(0.25))
    assert (b.final.p_holm, w.final.p_holm) == (pytest.approx(4 / 64), pytest.approx(0.25))
    assert not b.final.real
    assert b.facts()["final_test"] == "mcnemar" and b.facts()["difference_final"] == pytest.approx(6 / 40)


# Simulated benches. An answer is right if the learner's skill, the clip's ease, the learner's taste for the clip, the
# run's luck and noise sum to more than nothing.


def simulated(
    rng: np.random.Generator, skill: float, runs: int, clips: int, taste: float, luck: float, noise: float, ease: Right
) -> list[list[Answered]]:
    likes, lucks = rng.normal(0, taste, clips), rng.normal(0, luck, (runs, 1)) if luck else 0.0
    first, second = (skill + ease + likes + lucks + rng.normal(0, noise, (runs, clips)) > 0 for _ in range(2))
    return [[answered(a[: clips // 2]), answered(b)] for a, b in zip(first, second, strict=True)]


def benches(
    number: int, gap: float, runs: int, clips: int, taste: float, luck: float, noise: float
) -> list[Difference]:
    """Differences of final and of mean accuracy of two learners, `gap` apart in skill, on many benches."""
    rng, weights, found = np.random.default_rng(runs * clips), draws(clips + 2, 500), []
    for _ in range(number):
        ease = rng.normal(0.7, 1, clips)
        one, other = (simulated(rng, s, runs, clips, taste, luck, noise, ease) for s in (gap, 0.0))
        found += differences(one, other, list(range(runs)), weights)
    return found


@pytest.mark.parametrize(
    ("runs", "taste", "luck", "noise"),
    [
        (1, 0.5, 0.0, 0.3),  # One run that owes nothing to luck: clips alone.
        (3, 1.0, 0.0, 0.1),  # Clips above all; runs hardly differ.
        (3, 0.2, 0.0, 1.0),  # Noise of each clip in each run.
        (2, 0.5, 0.15, 0.5),  # Some of everything, with two runs.
        (3, 0.5, 0.15, 0.5),
        (5, 0.3, 0.5, 0.3),  # Runs above all.
    ],
)
def test_learners_that_are_alike_are_seldom_called_different(
    runs: int, taste: float, luck: float, noise: float
) -> None:
    number = 300  # of benches, with two differences each
    wrong = np.mean([difference.p < 0.05 for difference in benches(number, 0.0, runs, 200, taste, luck, noise)])
    assert wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / number)  # Of one bench the two differences go together.


@pytest.mark.parametrize(("runs", "least"), [(1, 0.03), (2, 0.01), (3, 0.03), (9, 0.03)])
def test_the_level_is_not_given_away(runs: int, least: float) -> None:
    """Where clips decide, the test errs about 5 times of 100: it is no test that never finds anything."""
    found = benches(500, 0.0, runs, 300, 1.0, 0.0, 0.1)
    assert least < np.mean([difference.p < 0.05 for difference in found]) < 0.07


def test_a_known_difference_is_found() -> None:
    found = benches(40, 0.5, 5, 400, 0.5, 0.05, 0.5)
    assert np.mean([difference.p < 0.05 for difference in found]) > 0.9
    assert all(difference.low < difference.value < difference.high for difference in found)


def test_the_truth_lies_in_the_interval() -> None:
    """With many benches the mean difference is the truth; 19 intervals of 20 hold it."""
    found = benches(200, 0.3, 4, 200, 0.4, 0.2, 0.4)[::2]
    truth = np.mean([difference.value for difference in found])
    assert np.mean([difference.low <= truth <= difference.high for difference in found]) > 0.91


def test_a_large_bench_takes_seconds() -> None:
    """100 classes, 5,000 clips, 10 sessions, 9 runs on 3 class orders, 6 learners."""
    rng = np.random.default_rng(0)
    label, pairs = np.repeat(np.arange(100), 50), [(seed, order) for order in range(3) for seed in range(3)]
    asked = []
    for _, order in pairs:
        where = np.argsort(np.random.default_rng(order).permutation(100))
        asked.append([np.flatnonzero(where[label] < 10 * (t + 1)).tolist() for t in range(10)])
    learners = [
        results(f"l{k}", [[answered(rng.random(len(r)) < 0.7 + 0.01 * k, r) for r in of] for of in asked], pairs)
        for k in range(6)
    ]
    began = time.perf_counter()
    found = compare(told(*learners), "l0")
    assert time.perf_counter() - began < 20  # 1.2 s on one core that is free.
    for k in range(1, 6):
        of = found.by_learner[f"l{k}"]
        assert isinstance(of, Comparison) and (of.runs, of.units) == (9, 3)
        logs = [[np.mean([f(log) for log in r.answers]) for f in (final_accuracy, mean_accuracy)] for r in learners]
        assert of.final.value == pytest.approx(logs[k][0] - logs[0][0])
        assert of.mean.value == pytest.approx(logs[k][1] - logs[0][1])
