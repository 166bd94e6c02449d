"""Every metric on answers small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkback.metrics import (
    Answered,
    accuracy_per_session,
    average_forgetting,
    backward_transfer,
    confusion,
    final_accuracy,
    final_forgetting,
    forgetting_per_session,
    half_width,
    mean_accuracy,
    per_class_accuracy,
    session_matrix,
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


def test_accuracy_is_the_share_of_all_clips_so_far() -> None:
    assert accuracy_per_session(LOG).tolist() == pytest.approx([3 / 4, 3 / 5, 5 / 7])
    assert mean_accuracy(LOG) == pytest.approx((3 / 4 + 3 / 5 + 5 / 7) / 3)
    assert final_accuracy(LOG) == pytest.approx(5 / 7)


def test_the_session_matrix() -> None:
    np.testing.assert_array_equal(session_matrix(LOG), MATRIX)


def test_forgetting_by_hand() -> None:
    # F_1 = .75 - .5; F_2 = mean( max(.75, .5) - 1, 1 - 0 ): the first got better, and that counts as negative.
    assert forgetting_per_session(MATRIX).tolist() == pytest.approx([0.25, (-0.25 + 1.0) / 2])
    assert average_forgetting(MATRIX) == pytest.approx((0.25 + 0.375) / 2)
    assert final_forgetting(MATRIX) == pytest.approx(0.375)


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


@given(st.lists(st.lists(st.floats(0, 1), min_size=6, max_size=6), min_size=2, max_size=6))
def test_forgetting_against_loops(rows: list[list[float]]) -> None:
    size = len(rows)
    matrix = np.array([[rows[t][i] if i <= t else NAN for i in range(size)] for t in range(size)])
    expected = []
    for t in range(1, size):
        total = 0.0
        for i in range(t):
            total += max(rows[earlier][i] for earlier in range(i, t)) - rows[t][i]
        expected.append(total / t)
    assert forgetting_per_session(matrix).tolist() == pytest.approx(expected)
    assert backward_transfer(matrix) == pytest.approx(
        sum(rows[-1][i] - rows[i][i] for i in range(size - 1)) / (size - 1)
    )


def test_confusion_and_accuracy_of_each_class() -> None:
    last = answered([0, 0, 1, 1, 1, 3], [0, 2, 1, 1, 0, 3], CAME)
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
