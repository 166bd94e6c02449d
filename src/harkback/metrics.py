"""Metrics: pure functions of the prediction log. Accuracies are shares, 0..1; NaN where there is nothing to measure."""

from __future__ import annotations

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
    steps = []
    for t in range(1, len(matrix)):
        best = np.array([np.fmax.reduce(matrix[i:t, i]) for i in range(t)])
        steps.append(np.mean(best - matrix[t, :t]))
    return np.array(steps)


def average_forgetting(matrix: Array) -> float:
    """AV-CIL's average forgetting (arXiv 2308.11073): the mean of F_t over all sessions but the first."""
    steps = forgetting_per_session(matrix)
    return float(steps.mean()) if len(steps) else float("nan")


def final_forgetting(matrix: Array) -> float:
    """F_T alone (Chaudhry et al., ECCV 2018, with the best among earlier sessions)."""
    steps = forgetting_per_session(matrix)
    return float(steps[-1]) if len(steps) else float("nan")


def backward_transfer(matrix: Array) -> float:
    """BWT = mean_{i<T} ( a_{T,i} - a_{i,i} ) (Lopez-Paz & Ranzato, NeurIPS 2017); negative: forgotten."""
    if len(matrix) < 2:
        return float("nan")
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


def half_width(values: Sequence[float]) -> float:
    """Half the 95 % confidence interval of the mean over runs (Student's t); NaN for fewer than two runs."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else float("nan")
