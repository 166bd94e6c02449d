"""Every metric on answers small enough to count by hand."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from harkback.metrics import (
    Answered,
    accuracy_per_session,
    average_forgetting,
    backward_transfer,
    class_macro_per_session,
    clips_half_width,
    confusion,
    final_accuracy,
    final_accuracy_class_macro,
    final_accuracy_task_macro,
    final_forgetting,
    final_forgetting_pycil,
    forgetting_per_session,
    half_width,
    mean_accuracy,
    mean_accuracy_class_macro,
    mean_accuracy_task_macro,
    per_class_accuracy,
    session_matrix,
    spread,
    task_macro_per_session,
)

NAN = float("nan")


def answered(truth: list[int], said: list[int], came: list[int]) -> Answered:
    """came: of each class."""
    t = np.array(truth, dtype=np.int64)
    return Answered(np.arange(len(t)), t, np.array(said, dtype=np.int64), np.array(came, dtype=np.int64)[t])


# Classes 0, 1 came in session 0, class 2 in session 1, class 3 in session 2; two clips of each but class 2: one.
CAME = [0, 0, 1, 2]
LOG = [
    answered([0, 0, 1, 1], [0, 0, 1, 0], CAME),  # 3 of 4
    answered([0, 0, 1, 1, 2], [0, 2, 2, 1, 2], CAME),  # old 2 of 4, new 1 of 1
    answered([0, 0, 1, 1, 2, 3, 3], [0, 0, 1, 1, 3, 3, 2], CAME),  # 4 of 4 (better than ever), 0 of 1, 1 of 2
]
MATRIX = np.array([[0.75, NAN, NAN], [0.5, 1.0, NAN], [1.0, 0.0, 0.5]])


def test_an_answer_cannot_be_changed_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        LOG[0].said = LOG[0].truth  # type: ignore[misc]


def test_accuracy_is_the_share_of_all_clips_so_far() -> None:
    assert accuracy_per_session(LOG).tolist() == pytest.approx([3 / 4, 3 / 5, 5 / 7])
    assert mean_accuracy(LOG) == pytest.approx((3 / 4 + 3 / 5 + 5 / 7) / 3)
    assert final_accuracy(LOG) == pytest.approx(5 / 7)


def test_task_macro_weighs_every_session_alike() -> None:
    # The rows of MATRIX: .75; .5, 1; 1, 0, .5. Micro would be 3/4, 3/5, 5/7.
    assert task_macro_per_session(LOG).tolist() == pytest.approx([0.75, (0.5 + 1) / 2, (1 + 0 + 0.5) / 3])
    assert mean_accuracy_task_macro(LOG) == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    assert final_accuracy_task_macro(LOG) == pytest.approx(0.5)


def test_class_macro_weighs_every_class_alike() -> None:
    # Of classes 0, 1, 2, 3: 1, 1/2; then 1/2, 1/2, 1; then 1, 1, 0, 1/2.
    assert class_macro_per_session(LOG).tolist() == pytest.approx([1.5 / 2, 2 / 3, 2.5 / 4])
    assert mean_accuracy_class_macro(LOG) == pytest.approx((1.5 / 2 + 2 / 3 + 2.5 / 4) / 3)
    assert final_accuracy_class_macro(LOG) == pytest.approx(2.5 / 4)


def test_the_three_accuracies_differ_where_sessions_and_classes_differ_in_size() -> None:
    # Session 0: class 0 with six clips, class 1 with two. Session 1: class 2 alone, with one clip.
    came = [0, 0, 1]
    log = [
        answered([0] * 6 + [1] * 2, [0] * 6 + [0, 1], came),
        answered([0] * 6 + [1] * 2 + [2], [0] * 3 + [2] * 3 + [0, 0] + [2], came),
    ]
    assert accuracy_per_session(log).tolist() == pytest.approx([7 / 8, 4 / 9])
    assert task_macro_per_session(log).tolist() == pytest.approx([7 / 8, (3 / 8 + 1) / 2])
    assert class_macro_per_session(log).tolist() == pytest.approx([(1 + 1 / 2) / 2, (3 / 6 + 0 + 1) / 3])


def test_one_session_has_one_accuracy_but_for_the_classes_sizes() -> None:
    log = [answered([0, 0, 0, 1], [0, 0, 0, 0], [0, 0])]
    assert final_accuracy(log) == mean_accuracy(log) == 0.75
    assert final_accuracy_task_macro(log) == mean_accuracy_task_macro(log) == 0.75
    assert final_accuracy_class_macro(log) == mean_accuracy_class_macro(log) == 0.5


def test_macro_leaves_out_what_has_no_clips() -> None:
    # Class 1 is never asked; nor is class 2, which is session 1. Class 3 is said but never true.
    came = [0, 0, 1, 2]
    log = [answered([0, 0], [0, 1], came), answered([0, 0], [0, 3], came), answered([], [], came)]
    assert task_macro_per_session(log)[:2].tolist() == [0.5, 0.5]
    assert class_macro_per_session(log)[:2].tolist() == [0.5, 0.5]
    between = [answered([0, 0, 2], [0, 1, 2], [0, 0, 0])]  # A class without clips between two that have some.
    assert class_macro_per_session(between).tolist() == [0.75]
    assert math.isnan(task_macro_per_session(log)[2])
    assert math.isnan(class_macro_per_session(log)[2])


def test_the_session_matrix() -> None:
    np.testing.assert_array_equal(session_matrix(LOG), MATRIX)


def test_forgetting_by_hand() -> None:
    # F_1 = .75 - .5; F_2 = mean( max(.75, .5) - 1, 1 - 0 ): the first got better, and that counts as negative.
    assert forgetting_per_session(MATRIX).tolist() == pytest.approx([0.25, (-0.25 + 1.0) / 2])
    assert average_forgetting(MATRIX) == pytest.approx((0.25 + 0.375) / 2)
    assert final_forgetting(MATRIX) == pytest.approx(0.375)


def test_forgetting_as_pycil_and_mammoth_count_it() -> None:
    # The last session's own accuracy counts among the best: 1 - 1 and 1 - 0, where Chaudhry et al. have .75 - 1.
    assert final_forgetting_pycil(MATRIX) == pytest.approx((0 + 1) / 2)
    better = np.array([[0.2, NAN], [0.9, 1.0]])
    assert final_forgetting_pycil(better) == 0
    assert math.isnan(final_forgetting_pycil(np.array([[0.8]])))
    # As mammoth's and PyCIL's code has it: a table with zeros before a task came, and the maximum over all rows.
    table = np.nan_to_num(MATRIX)
    assert final_forgetting_pycil(MATRIX) == pytest.approx(np.mean((table.max(0) - table[-1])[:-1]))


def test_backward_transfer_by_hand() -> None:
    assert backward_transfer(MATRIX) == pytest.approx(((1.0 - 0.75) + (0.0 - 1.0)) / 2)


def test_forgetting_may_be_negative() -> None:
    better = np.array([[0.2, NAN], [0.9, 1.0]])
    assert final_forgetting(better) == average_forgetting(better) == pytest.approx(-0.7)
    assert backward_transfer(better) == pytest.approx(0.7)


def test_the_best_is_sought_among_earlier_sessions_from_when_the_class_came() -> None:
    matrix = np.array([[0.5, NAN, NAN, NAN], [0.9, 0.1, NAN, NAN], [0.3, 0.6, 0.2, NAN], [0.4, 0.5, 0.7, 1.0]])
    expected = [0.5 - 0.9, ((0.9 - 0.3) + (0.1 - 0.6)) / 2, ((0.9 - 0.4) + (0.6 - 0.5) + (0.2 - 0.7)) / 3]
    assert forgetting_per_session(matrix).tolist() == pytest.approx(expected)
    assert average_forgetting(matrix) == pytest.approx(sum(expected) / 3)


def test_one_session_has_nothing_to_forget() -> None:
    one = np.array([[0.8]])
    assert forgetting_per_session(one).shape == (0,)
    assert math.isnan(average_forgetting(one))
    assert math.isnan(final_forgetting(one))
    assert math.isnan(backward_transfer(one))


def test_a_last_session_of_one_class_counts_as_any_other() -> None:
    """What went wrong elsewhere: the last one-class session was dropped from the groups."""
    log = [answered([0, 1], [0, 1], [0, 0, 1]), answered([0, 1, 2], [2, 2, 2], [0, 0, 1])]
    np.testing.assert_array_equal(session_matrix(log), [[1.0, NAN], [0.0, 1.0]])
    assert final_forgetting(session_matrix(log)) == 1.0


def test_no_clips_no_number() -> None:
    log = [answered([0, 0], [0, 1], [0, 0, 1]), answered([0, 0], [0, 0], [0, 0, 1])]
    matrix = session_matrix(log)
    np.testing.assert_array_equal(matrix, [[0.5, NAN], [1.0, NAN]])
    assert math.isnan(accuracy_per_session([answered([], [], [0])])[0])


def test_confusion_and_accuracy_of_each_class() -> None:
    last = answered([0, 0, 1, 1, 1, 3], [0, 2, 1, 1, 0, 3], CAME)
    assert confusion(last, 4).dtype == np.int64
    assert confusion(last, 4).tolist() == [[1, 0, 1, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(per_class_accuracy(last, 4), [1 / 2, 2 / 3, NAN, 1.0])


def test_half_width_against_the_table_of_students_t() -> None:
    # Two-sided 95 %: 12.706 for 1 degree of freedom, 4.303 for 2, 2.776 for 4.
    assert half_width([0.0, 1.0]) == pytest.approx(12.706 * math.sqrt(0.5) / math.sqrt(2), rel=1e-4)
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 * 1.0 / math.sqrt(3), rel=1e-4)
    assert half_width([2.0, 4.0, 4.0, 4.0, 6.0]) == pytest.approx(2.776 * math.sqrt(2) / math.sqrt(5), rel=1e-3)
    assert half_width([5.0, 5.0, 5.0]) == 0.0
    assert math.isnan(half_width([5.0]))
    assert math.isnan(half_width([]))


def test_runs_that_share_a_class_order_are_one() -> None:
    values, orders = [1.0, 3.0, 4.0, 6.0, 9.0, 13.0], ["avcil-2023", "avcil-2023", 1, 1, 2, 2]
    # The orders' means are 2, 5 and 11: s = sqrt(21), and Student's t for 2 degrees of freedom is 4.303.
    assert half_width(values, orders) == pytest.approx(4.3027 * math.sqrt(21) / math.sqrt(3), rel=1e-4)
    assert half_width(values, [1, "avcil-2023", 7, 1, 7, "avcil-2023"]) != half_width(values, orders)
    # Runs that are equal in each order are no more than one run of each.
    assert half_width([2.0, 2.0, 2.0, 5.0, 5.0, 5.0], [0, 0, 0, 1, 1, 1]) == pytest.approx(half_width([2.0, 5.0]))


def test_one_order_or_an_order_each_is_an_interval_over_runs() -> None:
    values = [2.0, 4.0, 4.0, 4.0, 6.0]
    for orders in (None, [3] * 5, [0, 1, 2, 3, 4], ["own"] * 5):
        assert half_width(values, orders) == pytest.approx(half_width(values))
        assert spread(values, orders) == (pytest.approx(2.0 / 5), 4)
    assert spread([1.0], [0]) == (pytest.approx(NAN, nan_ok=True), 0)


def test_orders_of_unequal_size_against_loops() -> None:
    values, orders = [1.0, 2.0, 6.0, 7.0, 9.0, 4.0], [0, 0, 0, 1, 1, 2]
    mean, total = sum(values) / 6, 0.0
    for order in (0, 1, 2):
        total += sum((v - mean) / 6 for v, o in zip(values, orders, strict=True) if o == order) ** 2
    assert spread(values, orders) == (pytest.approx(1.5 * total), 2)


@pytest.mark.parametrize(("clips", "expected"), [(394, 4.3), (104, 8.3), (1958, 1.9), (5000, 1.2), (500, 3.8)])
def test_what_the_choice_of_clips_is_worth(clips: int, expected: float) -> None:
    """At 75 %, the field's own figures: AVE, its first session, Kinetics-Sounds, VGGSound-100, its first session."""
    assert round(100 * clips_half_width(0.75, clips), 1) == expected


def test_no_certainty_from_few_clips() -> None:
    # Wilson's half-width at 0 or 1 is z^2 / (2 (n + z^2)).
    for share in (0.0, 1.0):
        assert clips_half_width(share, 10) == pytest.approx(3.8415 / (2 * 13.8415), rel=1e-4)
    assert math.isnan(clips_half_width(0.5, 0))
    # The truth lies in the interval about 95 times of 100.
    right = np.random.default_rng(0).binomial(200, 0.8, 20000)
    inside = [abs(k / 200 - 0.8) <= clips_half_width(k / 200, 200) for k in right]
    assert 0.93 < np.mean(inside) < 0.97


@pytest.mark.parametrize("clips", [1, 2, 7, 30, 200])
def test_wilsons_interval_is_the_shares_that_the_clips_do_not_rule_out(clips: int) -> None:
    """Its ends solve (share - p)^2 = z^2 p (1 - p) / n for p; at the ends of the scale it is wider than Wald's."""
    z = 1.959964
    for right in range(clips + 1):
        share = right / clips
        # p^2 (1 + z^2 / n) - p (2 share + z^2 / n) + share^2 = 0
        low, high = sorted(np.roots([1 + z**2 / clips, -2 * share - z**2 / clips, share**2]).real)
        wald = z * math.sqrt(share * (1 - share) / clips)
        assert clips_half_width(share, clips) == pytest.approx(max((high - low) / 2, wald), rel=1e-5)


def test_single_numbers_are_plain_ones() -> None:
    """They go into JSON as they are, and are written without the name of their type."""
    of_log = (mean_accuracy, mean_accuracy_task_macro, mean_accuracy_class_macro)
    last = (final_accuracy, final_accuracy_task_macro, final_accuracy_class_macro)
    of_matrix = (average_forgetting, final_forgetting, final_forgetting_pycil, backward_transfer)
    numbers = [metric(LOG) for metric in (*of_log, *last)]
    numbers += [metric(matrix) for metric in of_matrix for matrix in (MATRIX, MATRIX[:1, :1])]
    numbers += [half_width([1.0, 2.0]), half_width([1.0]), spread([1.0, 2.0])[0], spread([1.0])[0]]
    numbers += [clips_half_width(0.5, 10), clips_half_width(0.0, 10), clips_half_width(0.5, 0)]
    assert [type(number) for number in numbers] == [float] * len(numbers)
