"""Metrics of any log: within their bounds, as their papers' formulas say, and blind to names and order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkback import metrics
from harkback.metrics import Answered
from harkback.results import ACCURACIES, FORGETTINGS

Log = list[list[tuple[int, int]]]  #: after each session, of each clip: its class, and what was said
NAN = float("nan")


@st.composite
def logs(draw: st.DrawFn, whole: bool = False) -> tuple[Log, list[int]]:
    """A log, and the session in which each class came. whole: no class is without clips."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    came = [t for t, size in enumerate(sizes) for _ in range(size)]
    clips = [c for c in range(len(came)) for _ in range(draw(st.integers(int(whole), 3)))]
    clips = draw(st.permutations(clips or [0]))
    log = []
    for t in range(len(sizes)):
        seen = [c for c in range(len(came)) if came[c] <= t]
        log.append([(c, draw(st.sampled_from(seen))) for c in clips if came[c] <= t])
    return log, came


def answered(log: Log, came: Sequence[int]) -> list[Answered]:
    sessions = []
    for said in log:
        table = np.array(said, dtype=np.int64).reshape(-1, 2)
        sessions.append(Answered(np.arange(len(table)), table[:, 0], table[:, 1], np.array(came)[table[:, 0]]))
    return sessions


def mean(values: Sequence[float]) -> float:
    found = [value for value in values if not math.isnan(value)]
    return sum(found) / len(found) if found else NAN


def share(pairs: Sequence[tuple[int, int]]) -> float:
    return sum(c == said for c, said in pairs) / len(pairs) if pairs else NAN


def by_session(log: Log, came: Sequence[int]) -> list[list[float]]:
    """a_{t,i}, i <= t"""
    return [[share([p for p in said if came[p[0]] == i]) for i in range(t + 1)] for t, said in enumerate(log)]


def same(one: float, other: float) -> bool:
    return one == pytest.approx(other, nan_ok=True)


@given(logs())
def test_accuracies_against_loops(given_: tuple[Log, list[int]]) -> None:
    log, came = given_
    told, a = answered(log, came), by_session(log, came)
    micro = [share(said) for said in log]
    by_class = [mean([share([p for p in said if p[0] == c]) for c in range(len(came))]) for said in log]
    for name, each in (("", micro), ("_task_macro", [mean(row) for row in a]), ("_class_macro", by_class)):
        whole = NAN if any(map(math.isnan, each)) else sum(each) / len(each)
        assert same(ACCURACIES[f"mean_accuracy{name}"](told), whole)
        assert same(ACCURACIES[f"final_accuracy{name}"](told), each[-1])
    matrix = metrics.session_matrix(told)
    assert all(same(matrix[t, i], a[t][i]) for t in range(len(log)) for i in range(t + 1))


@given(logs(whole=True))
def test_forgettings_against_loops(given_: tuple[Log, list[int]]) -> None:
    """Chaudhry et al.: f_j = max_{l<t} a_{l,j} - a_{t,j}, and its mean over j < t; AV-CIL: the mean of those over t."""
    log, came = given_
    a, last = by_session(log, came), len(log) - 1
    steps = [mean([max(a[s][i] for s in range(i, t)) - a[t][i] for i in range(t)]) for t in range(1, last + 1)]
    loops = {
        "average_forgetting": mean(steps),
        "final_forgetting": steps[-1] if steps else NAN,
        "final_forgetting_pycil": mean([max(a[s][i] for s in range(i, last + 1)) - a[last][i] for i in range(last)]),
        "backward_transfer": mean([a[last][i] - a[i][i] for i in range(last)]),
    }
    matrix = metrics.session_matrix(answered(log, came))
    assert all(same(FORGETTINGS[name](matrix), expected) for name, expected in loops.items())
    # Pairs of definitions that bound one another.
    pycil, final, back = (loops[name] for name in ("final_forgetting_pycil", "final_forgetting", "backward_transfer"))
    assert math.isnan(pycil) or (0 <= pycil <= 1 and pycil + 1e-12 >= max(final, -back) and final >= -1 and back <= 1)


@given(logs())
def test_what_was_not_measured_is_no_number_and_what_was_is_within_its_bounds(given_: tuple[Log, list[int]]) -> None:
    told = answered(*given_)
    for accuracy in ACCURACIES.values():
        value = accuracy(told)
        assert math.isnan(value) or 0 <= value <= 1
    matrix = metrics.session_matrix(told)
    for name, forgetting in FORGETTINGS.items():
        value = forgetting(matrix)
        assert math.isnan(value) or (0 if name.endswith("pycil") else -1) <= value <= 1
    shares = metrics.per_class_accuracy(told[-1], len(given_[1]))
    table = metrics.confusion(told[-1], len(given_[1]))
    assert table.sum() == len(given_[0][-1])
    asked = {c for c, _ in given_[0][-1]}
    assert all(math.isnan(x) == (c not in asked) for c, x in enumerate(shares))


def all_of(log: Log, came: Sequence[int]) -> list[float]:
    told = answered(log, came)
    matrix = metrics.session_matrix(told)
    of: list[Callable[..., float]] = [*ACCURACIES.values()]
    return [*(metric(told) for metric in of), *(metric(matrix) for metric in FORGETTINGS.values())]


@given(logs(), st.data())
def test_the_order_of_clips_and_the_numbers_of_classes_change_nothing(
    given_: tuple[Log, list[int]], data: st.DataObject
) -> None:
    log, came = given_
    shuffled = [list(data.draw(st.permutations(said))) for said in log]
    assert all_of(shuffled, came) == pytest.approx(all_of(log, came), nan_ok=True)
    number = data.draw(st.permutations(range(len(came))))
    renamed = [[(number[c], number[said]) for c, said in session] for session in log]
    moved = [came[number.index(c)] for c in range(len(came))]
    assert all_of(renamed, moved) == pytest.approx(all_of(log, came), nan_ok=True)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=8), st.data())
def test_an_interval_is_blind_to_the_order_of_runs_and_moves_with_them(
    runs: list[tuple[float, int]], data: st.DataObject
) -> None:
    values, orders = [v for v, _ in runs], [o for _, o in runs]
    width = metrics.half_width(values, orders)
    other = data.draw(st.permutations(runs))
    assert metrics.half_width([v for v, _ in other], [o for _, o in other]) == pytest.approx(width, nan_ok=True)
    assert metrics.half_width([v + 2 for v in values], orders) == pytest.approx(width, nan_ok=True, abs=1e-12)
    assert metrics.half_width([3 * v for v in values], orders) == pytest.approx(3 * width, nan_ok=True)
    assert math.isnan(width) == (len(runs) < 2)
    assert math.isnan(width) or width >= 0


@given(st.integers(0, 500), st.integers(1, 500))
def test_four_times_as_many_clips_make_the_interval_narrower(right: int, more: int) -> None:
    clips = right + more
    for share_ in (right / clips, more / clips):
        assert 0 < metrics.clips_half_width(share_, clips) < 1
        assert metrics.clips_half_width(share_, 4 * clips) < metrics.clips_half_width(share_, clips)
