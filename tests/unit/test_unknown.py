"""Temperature, evidence, the promised false-alarm rate and the measures of both: by algebra and by brute force."""

from __future__ import annotations

import json
import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harkback.errors import HarkbackError
from harkback.unknown import Bin, Calibration, auroc, calibrated, ece, examined, reliability


def clips(number: int, classes: int, seed: int, sure: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of clips of classes that take turns, right ones ``sure`` deviations higher."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(number) % classes
    noise = torch.randn(number, classes, generator=generator)
    return noise + sure * torch.nn.functional.one_hot(truth, classes), truth


# The temperature.


@pytest.mark.parametrize(("right", "asked"), [(9, 10), (3, 3), (1, 1), (60, 100)])
def test_two_classes_have_their_temperature_by_algebra(right: int, asked: int) -> None:
    # All margins are 1, so the confidence of every answer is p = sigmoid(1 / T), and the loss is least where p is the
    # share right: of these clips, and of half a clip that is right half of the time.
    scores = torch.tensor([[1.0, 0.0]]).repeat(asked, 1)
    truth = (torch.arange(asked) >= right).long()
    p = (right + 0.25) / (asked + 0.5)
    assert calibrated(scores, truth).temperature == pytest.approx(1 / math.log(p / (1 - p)), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_temperature_is_likelier(seed: int) -> None:
    scores, truth = clips(23, 5, seed)

    def loss(temperature: float) -> float:
        total = 0.0
        for line, target in zip(scores.double().tolist(), truth.tolist(), strict=True):
            powers = [math.exp(score / temperature) for score in line]
            logs = [math.log(power / sum(powers)) for power in powers]
            total -= logs[target] + 0.5 / len(scores) * sum(logs) / len(logs)  # half a clip, whose class may be any
        return total

    best = calibrated(scores, truth).temperature
    grid = np.geomspace(0.05, 20, 400) * best
    assert loss(best) <= min(map(loss, grid)) + 1e-9
    assert loss(best) < min(loss(1.02 * best), loss(best / 1.02))


def test_the_unit_of_the_scores_does_not_matter() -> None:
    scores, truth = clips(40, 4, 0)
    one, other = calibrated(scores, truth), calibrated(1000 * scores.double() - 7, truth)
    assert other.temperature == pytest.approx(1000 * one.temperature)
    assert other.evidence == pytest.approx(one.evidence)


def test_a_few_clips_ask_for_no_absurd_temperature() -> None:
    # All wrong: a spread of the scores is a tenth of the temperature, and no less. Here it is 0.5.
    scores = torch.tensor([[1.0, 0.0]] * 3)
    assert calibrated(scores, torch.ones(3, dtype=torch.long)).temperature == pytest.approx(5.0)
    # All right: by the algebra above, three clips are 93 % sure, not 100 %.
    found = calibrated(scores, torch.zeros(3, dtype=torch.long))
    assert found.probabilities(scores)[:, 0].tolist() == pytest.approx([3.25 / 3.5] * 3)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (torch.zeros(0, 3), []),
        (torch.zeros(0, 0), []),
        (torch.tensor([[0.3], [0.7]]), [0, 0]),
        (torch.full((4, 3), 0.1), [0, 1, 2, 0]),
        (torch.full((4, 3), 0.1) + 7.5e-9 * torch.eye(4, 3), [0, 1, 2, 0]),  # as near as float32 can tell
    ],
)
def test_where_nothing_can_be_fitted_the_temperature_is_one(scores: torch.Tensor, truth: list[int]) -> None:
    found = calibrated(scores, torch.tensor(truth, dtype=torch.long))
    assert found.temperature == 1.0
    assert len(found.evidence) == len(truth)
    assert Calibration() == Calibration(1.0, ())


# Probabilities and evidence.


def test_probabilities_are_a_softmax_at_the_temperature() -> None:
    found = Calibration(0.5, ()).probabilities(torch.tensor([[1.0, 0.0, -1.0]]))
    powers = [math.exp(2), 1, math.exp(-2)]
    assert found[0].tolist() == pytest.approx([power / sum(powers) for power in powers])


def test_evidence_is_entropy_turned_round() -> None:
    asked = Calibration(3.0, ())
    halves = 3 * torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 1e-30, 1e-30]]).log()
    # 1.5 bits of log2(3); all of them; none.
    assert asked.evidence_of(halves).tolist() == pytest.approx([1 - 1.5 / math.log2(3), 0.0, 1.0], abs=1e-6)


def test_rounding_takes_evidence_no_further_than_nothing() -> None:
    found = [float(Calibration().evidence_of(torch.zeros(1, classes))) for classes in range(2, 60)]
    assert min(found) == 0.0 and max(found) < 1e-12


def test_one_class_has_nothing_to_be_weighed_against() -> None:
    found = calibrated(torch.randn(40, 1), torch.zeros(40, dtype=torch.long))
    assert found.evidence_of(torch.tensor([[-5.0], [5.0]])).tolist() == [1.0, 1.0]
    assert not found.unknown(torch.tensor([[-5.0]]), 0.05).any()
    assert found.probabilities(torch.tensor([[-5.0]])).tolist() == [[1.0]]


def test_scores_that_are_not_finite_are_refused() -> None:
    scores, truth = torch.tensor([[1.0, math.nan], [0.0, 1.0]]), torch.tensor([0, 1])
    with pytest.raises(HarkbackError, match="not finite"):
        calibrated(scores, truth)
    with pytest.raises(HarkbackError, match="not finite"):
        examined(scores, truth, 0.05)
    for ask in (Calibration().probabilities, Calibration().evidence_of):
        with pytest.raises(HarkbackError, match="not finite"):
            ask(scores)


# The promise.


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.05, 0.1, 0.29, 0.5, 0.99]),
)
def test_any_clip_but_one_promises_for_that_one(values: list[int], rate: float) -> None:
    """Of any clips (ties too), each in turn judged by all others, no more than the promised share is unknown."""
    called = 0
    for i, value in enumerate(values):
        others = Calibration(1.0, tuple(sorted(map(float, values[:i] + values[i + 1 :]))))
        limit = others.threshold(rate)
        called += limit is not None and value < limit
    assert called <= rate * len(values) + 1e-9


@pytest.mark.parametrize(("number", "rate", "called"), [(20, 0.05, 1), (100, 0.05, 5), (99, 0.29, 28), (19, 0.05, 0)])
def test_without_ties_no_clip_more_could_be_called_unknown(number: int, rate: float, called: int) -> None:
    found = 0
    for i in range(number):
        others = tuple(float(value) for value in range(number) if value != i)
        limit = Calibration(1.0, others).threshold(rate)
        found += limit is not None and i < limit
    assert found == called


def test_too_few_clips_promise_nothing() -> None:
    evidence = tuple(value / 100 for value in range(99))
    assert Calibration(1.0, evidence[:18]).threshold(0.05) is None
    assert Calibration(1.0, evidence[:19]).threshold(0.05) == 0.0
    assert Calibration(1.0, evidence).threshold(0.05) == 0.04
    assert Calibration(1.0, evidence).threshold(0.29) == 0.28  # 0.29 x 100 is 28.999999999999996
    assert Calibration(1.0, evidence).threshold(0.0) is None
    assert not Calibration(1.0, evidence[:18]).unknown(torch.zeros(3, 4), 0.05).any()


def test_less_evidence_than_the_threshold_is_unknown() -> None:
    scores = torch.tensor([[0.0, 0.0], [0.5, 0.0], [4.0, 0.0]])
    middle = float(Calibration().evidence_of(scores)[1])
    asked = Calibration(1.0, (middle,) * 19)
    assert asked.unknown(scores, 0.05).tolist() == [True, False, False]  # As much is not less.


def test_that_the_temperature_is_fitted_too_does_not_break_the_promise() -> None:
    scores, truth = clips(60, 4, 3)
    called = 0
    for i in range(60):
        others = torch.arange(60) != i
        found = calibrated(scores[others], truth[others])
        called += bool(found.unknown(scores[i : i + 1], 0.1))
    assert 1 <= called <= 6


@pytest.mark.parametrize("rate", [-0.1, 1.0, 5.0, math.nan])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(HarkbackError, match="cannot be promised; ask for a share from 0 to below 1"):
        Calibration(1.0, (0.5,)).threshold(rate)


# Plain facts.


def test_a_calibration_survives_json() -> None:
    found = calibrated(*clips(30, 3, 1))
    assert Calibration.from_facts(json.loads(json.dumps(found.facts()))) == found


@pytest.mark.parametrize(
    "damage",
    [{"temperature": fact} for fact in ("warm", None, 0.0, -1.0, math.nan, math.inf)]
    + [{"evidence": fact} for fact in ([0.5, 0.4], [0.5, math.nan], [0.5, math.inf], ["much"], 3, None)],
)
def test_damaged_facts_are_refused(damage: dict[str, object]) -> None:
    whole = {"temperature": 1.0, "evidence": [0.4, 0.5]}
    assert Calibration.from_facts(whole) == Calibration(1.0, (0.4, 0.5))
    for facts in (whole | damage, {name: fact for name, fact in whole.items() if name not in damage}):
        with pytest.raises(HarkbackError, match="calibration is damaged"):
            Calibration.from_facts(facts)


# The measures.


@given(st.lists(st.integers(0, 6), min_size=1, max_size=15), st.lists(st.integers(0, 6), min_size=1, max_size=15))
def test_auroc_counts_pairs(known: list[int], strangers: list[int]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in known for b in strangers]
    found = auroc(torch.tensor(known, dtype=torch.float32), torch.tensor(strangers, dtype=torch.float64))
    assert found == pytest.approx(sum(pairs) / len(pairs))


def test_nobody_to_compare_has_no_auroc() -> None:
    assert math.isnan(auroc(torch.zeros(0), torch.ones(3)))
    assert math.isnan(auroc(torch.ones(3), torch.zeros(0)))


def test_reliability_by_hand() -> None:
    confidence = torch.tensor([0.0, 0.1, 0.100001, 0.95, 1.0], dtype=torch.float64)
    found = reliability(confidence, torch.tensor([False, True, True, True, False]))
    assert [each.clips for each in found] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (found[0].low, found[0].high, found[9].low, found[9].high) == (0.0, 0.1, 0.9, 1.0)
    assert all(one.high == other.low for one, other in pairwise(found))
    assert (found[0].confidence, found[0].right) == (pytest.approx(0.05), 0.5)
    assert (found[1].confidence, found[1].right) == (pytest.approx(0.100001), 1.0)
    assert (found[9].confidence, found[9].right) == (pytest.approx(0.975), 0.5)
    assert math.isnan(found[4].confidence) and math.isnan(found[4].right)
    assert ece(found) == pytest.approx((2 * 0.45 + 1 * 0.899999 + 2 * 0.475) / 5)


def test_confidence_that_is_the_share_right_has_no_error() -> None:
    confidence = torch.tensor([0.75] * 4 + [0.5] * 2)
    assert ece(reliability(confidence, torch.tensor([True, True, True, False, True, False]))) == 0.0
    assert ece((Bin(0.0, 1.0, 3, 0.9, 0.4),)) == pytest.approx(0.5)
    assert math.isnan(ece(reliability(torch.zeros(0), torch.zeros(0, dtype=torch.bool))))


# The exam.


def test_each_clip_is_judged_by_the_other_folds() -> None:
    scores, truth = clips(64, 3, 5)
    fold, seen = [0] * 64, 0
    for target in range(3):  # Through the classes one after another, dealt out in turn.
        for clip in [clip for clip in range(64) if clip % 3 == target]:
            fold[clip], seen = seen % 5, seen + 1
    confidence, called = [], []
    for clip in range(64):
        others = [other for other in range(64) if fold[other] != fold[clip]]
        judge = calibrated(scores[others], truth[others])
        powers = [math.exp(score / judge.temperature) for score in scores[clip].double().tolist()]
        shares = [power / sum(powers) for power in powers]
        confidence.append(max(shares))
        evidence = 1 + sum(share * math.log(share) for share in shares) / math.log(3)
        called.append(evidence < sorted(judge.evidence)[math.floor(0.1 * (len(others) + 1)) - 1])
    right = [int(line.argmax()) == target for line, target in zip(scores, truth.tolist(), strict=True)]
    found = examined(scores, truth, 0.1)
    assert found.asked == 64
    assert found.accuracy == pytest.approx(sum(right) / 64)
    assert found.false_alarm == pytest.approx(sum(called) / 64)
    assert sum(called) > 0
    for each in found.bins:
        mine = [i for i in range(64) if each.low < confidence[i] <= each.high]
        assert each.clips == len(mine)
        if mine:
            assert each.confidence == pytest.approx(sum(confidence[i] for i in mine) / len(mine))
            assert each.right == pytest.approx(sum(right[i] for i in mine) / len(mine))
    assert found.ece == ece(found.bins)


def test_an_exam_of_few_clips_promises_no_rate() -> None:
    assert examined(*clips(23, 2, 0), 0.05).false_alarm is None  # 18 judge 5; 19 would be enough, and judge 4.
    assert examined(*clips(24, 2, 0), 0.05).false_alarm is not None  # 19 judge 5.
    one = examined(*clips(1, 2, 0, sure=9.0), 0.05)
    assert (one.asked, one.accuracy, one.false_alarm) == (1, 1.0, None)


def test_an_exam_of_nothing_measures_nothing() -> None:
    for classes in (0, 1, 3):
        found = examined(torch.zeros(0, classes), torch.zeros(0, dtype=torch.long), 0.05)
        assert (found.asked, found.false_alarm) == (0, None)
        assert math.isnan(found.accuracy) and math.isnan(found.ece)
        assert sum(each.clips for each in found.bins) == 0


def test_a_model_of_one_class_is_sure_and_right() -> None:
    found = examined(torch.randn(30, 1), torch.zeros(30, dtype=torch.long), 0.05)
    assert (found.accuracy, found.ece, found.false_alarm) == (1.0, 0.0, 0.0)


# ---- with strangeness -----------------------------------------------------------------------------------------------


def test_evidence_is_how_much_surer_and_less_strange_a_clip_is_than_usual() -> None:
    scores, truth = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.5, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 0, 1])
    strange = torch.tensor([-1.0, 0.0, 2.0, 3.0], dtype=torch.float64)
    found = calibrated(scores, truth, strange)
    sure = []
    for row in scores.tolist():
        p = 1 / (1 + math.exp(-abs(row[0] - row[1]) / found.temperature))
        sure.append(1 + (p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2))
    middle, deviation = statistics.mean(sure), statistics.pstdev(sure)
    spread = statistics.pstdev(strange.tolist())
    away = [(s - middle) / deviation - (t - 1) / spread for s, t in zip(sure, strange.tolist(), strict=True)]
    expected = [1 / (1 + math.exp(-each)) for each in away]
    torch.testing.assert_close(found.evidence_of(scores, strange), torch.tensor(expected, dtype=torch.float64))
    assert list(found.evidence) == pytest.approx(sorted(expected))


def test_a_model_of_one_class_tells_strangers_by_their_strangeness() -> None:
    strange = torch.arange(40, dtype=torch.float64)
    found = calibrated(torch.ones(40, 1), torch.zeros(40, dtype=torch.long), strange)
    asked = torch.tensor([0.0, 30.0, 100.0], dtype=torch.float64)
    assert found.unknown(torch.ones(3, 1), 0.05, asked).tolist() == [False, False, True]


def test_the_promise_holds_with_strangeness() -> None:
    """Of clips from the exam's source, hardly more than were allowed are called unknown; of strange ones most."""
    some = torch.Generator().manual_seed(1)

    def drawn(count: int, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(count, 3, generator=some), shift + torch.randn(count, generator=some).double()

    scores, strange = drawn(400)
    found = calibrated(scores, scores.argmax(1), strange)
    others = drawn(4000)
    known = found.unknown(others[0], 0.1, others[1]).double().mean()
    assert 0.05 < known < 0.15
    shifted = drawn(1000, 4.0)
    assert found.unknown(shifted[0], 0.1, shifted[1]).double().mean() > 0.8
    again = Calibration.from_facts(json.loads(json.dumps(found.facts())))
    assert again == found


def test_a_damaged_measure_of_strangeness_is_noticed() -> None:
    for usual in ([0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 1.0, "x", 1.0], [0.0, 1.0, 0.0, float("nan")]):
        with pytest.raises(HarkbackError, match="calibration is damaged"):
            Calibration.from_facts({"temperature": 1.0, "evidence": [], "usual": usual})
