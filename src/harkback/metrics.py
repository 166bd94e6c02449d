"""Metrics: pure functions of the prediction log. Accuracies are shares, 0..1; NaN where there is nothing to measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a learner said of the test clips of all classes it had seen, after one session."""

    rows: NDArray[np.int64]  #: (clips,) which test clips
    truth: NDArray[np.int64]  #: (clips,) number of the true class
    said: NDArray[np.int64]  #: (clips,) number of the class with the highest score
    came: NDArray[np.int64]  #: (clips,) the session in which the true class came


def accuracy_per_session(log: Sequence[Answered]) -> Array:
    """A_t: share of the clips of all classes seen so far that are right after session t (micro). (sessions,)"""
    return np.array([_share(answered.said == answered.truth) for answered in log])


def mean_accuracy(log: Sequence[Answered]) -> float:
    """Average incremental accuracy: the mean of A_t over all sessions, the first included."""
    return float(accuracy_per_session(log).mean())


def final_accuracy(log: Sequence[Answered]) -> float:
    """A_T: the accuracy over all classes after the last session."""
    return float(accuracy_per_session(log)[-1])


def task_macro_per_session(log: Sequence[Answered]) -> Array:
    """The mean of a_{t,i} over the sessions i <= t: every session weighs alike, however many clips it has. (sessions,)

    What IEMF's code (arXiv 2505.10176) calls accuracy. A session without clips is left out of the mean.
    """
    return np.array([_mean(accuracies) for accuracies in session_matrix(log)])


def mean_accuracy_task_macro(log: Sequence[Answered]) -> float:
    """The mean of `task_macro_per_session` over all sessions, the first included (IEMF)."""
    return float(task_macro_per_session(log).mean())


def final_accuracy_task_macro(log: Sequence[Answered]) -> float:
    """`task_macro_per_session` after the last session, as Lopez-Paz & Ranzato's ACC (NeurIPS 2017)."""
    return float(task_macro_per_session(log)[-1])


def class_macro_per_session(log: Sequence[Answered]) -> Array:
    """The mean over the classes seen of each one's share of right clips: every class weighs alike. (sessions,)

    Balanced accuracy, as scikit-learn's ``balanced_accuracy_score``; the measure of long-tailed recognition. A class
    without clips is left out of the mean.
    """
    means = []
    for answered in log:
        clips = np.bincount(answered.truth)
        right = np.bincount(answered.truth, answered.said == answered.truth)
        means.append(_mean(right[clips > 0] / clips[clips > 0]))
    return np.array(means)


def mean_accuracy_class_macro(log: Sequence[Answered]) -> float:
    """The mean of `class_macro_per_session` over all sessions, the first included."""
    return float(class_macro_per_session(log).mean())


def final_accuracy_class_macro(log: Sequence[Answered]) -> float:
    """`class_macro_per_session` after the last session."""
    return float(class_macro_per_session(log)[-1])


def session_matrix(log: Sequence[Answered]) -> Array:
    """a_{t,i}: accuracy after session t on the clips of the classes of session i; NaN above the diagonal.

    Among all classes seen by then, not only those of session i. (sessions, sessions)
    """
    matrix = np.full((len(log), len(log)), np.nan)
    for t, answered in enumerate(log):
        for i in range(t + 1):
            mine = answered.came == i
            matrix[t, i] = _share(answered.said[mine] == answered.truth[mine])
    return matrix


def forgetting_per_session(matrix: Array) -> Array:
    """F_t = mean_{i<t} ( max_{l<t} a_{l,i} - a_{t,i} ), for t = 1 .. T. (sessions - 1,)

    The best is sought among earlier sessions only, so a class that got better counts as negative forgetting.
    """
    return np.array([np.mean(np.fmax.reduce(matrix[:t, :t]) - matrix[t, :t]) for t in range(1, len(matrix))])


def average_forgetting(matrix: Array) -> float:
    """AV-CIL's average forgetting (arXiv 2308.11073): the mean of F_t over all sessions but the first."""
    steps = forgetting_per_session(matrix)
    return float(steps.mean()) if len(steps) else math.nan


def final_forgetting(matrix: Array) -> float:
    """F_T alone: may be negative (Chaudhry et al., ECCV 2018, and SDC, with the best among earlier sessions)."""
    steps = forgetting_per_session(matrix)
    return float(steps[-1]) if len(steps) else math.nan


def final_forgetting_pycil(matrix: Array) -> float:
    """mean_{i<T} ( max_{l<=T} a_{l,i} - a_{T,i} ): PyCIL's, PILOT's and mammoth's forgetting.

    The best may be the last session itself, so it is never negative: what got better counts as not forgotten.
    """
    if len(matrix) < 2:
        return math.nan
    return float(np.mean((np.fmax.reduce(matrix) - matrix[-1])[:-1]))


def backward_transfer(matrix: Array) -> float:
    """BWT = mean_{i<T} ( a_{T,i} - a_{i,i} ) (Lopez-Paz & Ranzato, NeurIPS 2017); negative: forgotten."""
    if len(matrix) < 2:
        return math.nan
    return float(np.mean(matrix[-1, :-1] - matrix.diagonal()[:-1]))


def confusion(answered: Answered, classes: int) -> NDArray[np.int64]:
    """(true class, said class) counts."""
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (answered.truth, answered.said), 1)
    return table


def per_class_accuracy(answered: Answered, classes: int) -> Array:
    """(classes,) share right of the clips of each class."""
    table = confusion(answered, classes)
    total = table.sum(1)
    return np.where(total > 0, table.diagonal() / np.maximum(total, 1), np.nan)


def spread(values: Sequence[float], orders: Sequence[object] | None = None) -> tuple[float, int]:
    """(variance of the mean over runs, its degrees of freedom); (NaN, 0) for fewer than two runs.

    orders: the class order of each run. Runs that share one are not independent, so with two orders or more the
    orders are what varies: V = k / (k - 1) sum_o ( sum_{r in o} (x_r - mean) / n )^2 for k orders and n runs in all
    (cluster-robust; with as many seeds in each order it is the variance of the mean of the orders' means). With one
    order, or none told, the runs are what varies.
    """
    groups = units(len(values), orders)
    number = len(set(groups))
    if number < 2:
        return math.nan, 0
    away = np.asarray(values, dtype=np.float64) - np.mean(values)
    sums = np.bincount(groups, away) / len(away)
    return float(number / (number - 1) * (sums**2).sum()), number - 1


def units(runs: int, orders: Sequence[object] | None) -> list[int]:
    """The number of the independent unit that each run belongs to: its class order, or itself if all share one."""
    if orders is None or len(set(orders)) < 2:
        return list(range(runs))
    number = {order: n for n, order in enumerate(dict.fromkeys(orders))}
    return [number[order] for order in orders]


def half_width(values: Sequence[float], orders: Sequence[object] | None = None) -> float:
    """Half the 95 % confidence interval of the mean over runs (Student's t); NaN for fewer than two runs.

    orders: the class order of each run; see `spread`. With a single order it speaks of seeds alone.
    """
    variance, freedom = spread(values, orders)
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(variance)) if freedom else math.nan


def clips_half_width(share: float, clips: int) -> float:
    """Half the 95 % interval of an accuracy that the choice of so many test clips alone implies.

    z sqrt(p (1 - p) / n), or Wilson's where that is wider: near 0 and 1 the former would promise certainty.
    """
    if not clips:
        return math.nan
    z = 1.959963984540054
    wald = z * np.sqrt(share * (1 - share) / clips)
    wilson = z * np.sqrt(share * (1 - share) / clips + z**2 / (4 * clips**2)) / (1 + z**2 / clips)
    return float(max(wald, wilson))


def _mean(shares: Array) -> float:
    """Of what was measured; NaN if nothing was."""
    measured = shares[~np.isnan(shares)]
    return float(measured.mean()) if len(measured) else math.nan


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else math.nan
