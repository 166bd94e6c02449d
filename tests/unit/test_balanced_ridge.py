"""Balanced ridge regression against plain ridge regression on clips repeated until all classes have as many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from fakes import features_of, random_features
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.learners.balanced_ridge import BalancedRidge, BalancedRidgeSettings
from harkback.learners.ridge import Ridge
from harkback.pooling import pooled
from harkback.stream import Session

SIZES = {"a": 12, "b": 2, "c": 6, "d": 4}
LABELS = [name for name, size in SIZES.items() for _ in range(size)]


def rows_of(names: Sequence[str]) -> torch.Tensor:
    return torch.tensor([row for name in names for row, label in enumerate(LABELS) if label == name])


def taught(learner: Ridge | BalancedRidge, clips: Features, *sessions: torch.Tensor) -> Ridge | BalancedRidge:
    for rows in sessions:
        learner.learn(Session.of(clips[rows], [LABELS[row] for row in rows.tolist()]))
    return learner


def exact(learner: Ridge | BalancedRidge, asked: Features) -> np.ndarray:
    return np.asarray(learner._scores(asked)[:, [learner.classes.index(name) for name in SIZES]])


def repeated() -> torch.Tensor:
    """Every class 12 times."""
    return torch.cat([rows_of(name).repeat(12 // size) for name, size in SIZES.items()])


@pytest.mark.parametrize("sessions", [["abcd"], ["a", "b", "c", "d"], ["dc", "ab"], ["b", "cad"]])
def test_each_class_weighs_the_same(sessions: list[str]) -> None:
    clips, asked = features_of(LABELS, noise=3), random_features(9, 5)
    plain = taught(Ridge(), clips, repeated())
    balanced = taught(BalancedRidge(), clips, *(rows_of(names) for names in sessions))
    np.testing.assert_allclose(exact(balanced, asked), exact(plain, asked), rtol=0, atol=1e-10)
    assert np.abs(exact(taught(Ridge(), clips, rows_of("abcd")), asked) - exact(plain, asked)).max() > 0.01


def test_what_is_kept_of_a_class_that_comes_again_is_its_mean_at_weight_one() -> None:
    clips = features_of(LABELS, noise=3)
    parts = torch.arange(len(LABELS))[torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))].split(5)
    learner = taught(BalancedRidge(), clips, *parts)
    assert isinstance(learner, BalancedRidge)
    np.testing.assert_allclose(learner.moments.counts, 1, rtol=1e-12)
    assert dict(zip(learner.classes, learner.counts.tolist(), strict=True)) == SIZES
    expected = [pooled(clips[rows_of(name)]).mean(0) for name in learner.classes]
    np.testing.assert_allclose(learner.moments.means, torch.stack(expected), rtol=0, atol=1e-12)
    within = torch.linalg.eigvalsh(learner.moments.within)
    assert within.min() > -1e-9 * within.max()  # Still a scatter, whatever came again.


def test_a_class_that_comes_again_is_exact_if_the_classes_spread_alike() -> None:
    """Five clouds of the same shape around other centres; one token each, so that pooled vectors move with them."""
    some = torch.Generator().manual_seed(0)
    cloud = torch.randint(-8, 9, (6, 1, 5), generator=some).float()
    centres = torch.randint(-20, 21, (3, 1, 1, 5), generator=some).float()
    first = (centres + cloud).flatten(0, 1)  # Classes a, b, c.
    more = torch.randint(-8, 9, (4, 1, 5), generator=some).float() + centres[1]
    audio = torch.cat([first, more])
    n = len(audio)
    there = torch.ones(n, dtype=torch.bool)
    clips = Features(tuple(map(str, range(n))), audio, torch.zeros(n, 1, 1, 1), there, ~there)
    labels = ["a"] * 6 + ["b"] * 6 + ["c"] * 6 + ["b"] * 4
    learner = BalancedRidge()
    for rows in (torch.arange(18), torch.arange(18, n)):
        learner.learn(Session.of(clips[rows], [labels[row] for row in rows.tolist()]))
    batch = BalancedRidge().learn(Session.of(clips, labels))
    np.testing.assert_allclose(learner._scores(clips), batch._scores(clips), rtol=0, atol=1e-10)


def test_all_classes_that_come_again_in_proportion_are_exact() -> None:
    clips, asked = features_of(LABELS, noise=3), random_features(9, 5)
    halves = rows_of("abcd")[::2], rows_of("abcd")[1::2]
    again, batch = (taught(BalancedRidge(), clips, *parts) for parts in (halves, [rows_of("abcd")]))
    np.testing.assert_allclose(exact(again, asked), exact(batch, asked), rtol=0, atol=1e-10)


def test_a_class_that_comes_again_is_nearer_to_the_batch_than_clips_unweighted() -> None:
    clips, asked = features_of(LABELS, noise=3), features_of(LABELS, 5, noise=3)
    parts = torch.cat([rows_of("a")[:3], rows_of("bcd")]), rows_of("a")[3:]
    batch = exact(taught(BalancedRidge(), clips, rows_of("abcd")), asked)
    again = np.abs(exact(taught(BalancedRidge(), clips, *parts), asked) - batch).mean()
    plain = np.abs(exact(taught(Ridge(), clips, rows_of("abcd")), asked) - batch).mean()
    assert 1e-6 < again < plain / 2  # Not exact, as is said.


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(HarkbackError, match="penalty of balanced-ridge"):
        BalancedRidge(BalancedRidgeSettings(0.0))
