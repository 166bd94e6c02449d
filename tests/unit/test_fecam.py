"""FeCAM against its definition, written naively: no square roots of matrices, no Woodbury."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fakes import features_of, random_features
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.learners.fecam import FeCAM, FeCAMSettings
from harkback.pooling import summaries
from harkback.stream import Session

Array = NDArray[np.float64]
LABELS = [name for name, size in {"a": 9, "b": 2, "c": 60, "d": 1}.items() for _ in range(size)]


def transformed(first: Features, asked: Features, power: float) -> Array:
    of, x = (torch.cat(summaries(features), 1).numpy() for features in (first, asked))
    z = (x - of.mean(0)) / of.std(0)
    return np.asarray(np.sign(z) * np.abs(z) ** power)


def by_definition(x: Array, labels: Array, asked: Array, gamma: float, classes: tuple[str, ...]) -> Array:
    scores = []
    for name in classes:
        mine = x[labels == name]
        # A class of one clip has no covariance; its correlations are taken to be none.
        covariance = np.cov(mine.T) if len(mine) > 1 else np.zeros((x.shape[1], x.shape[1]))
        mean_variance = np.trace(covariance) / len(covariance) or 1.0
        shrunk = covariance + gamma * mean_variance * np.eye(len(covariance)) if len(mine) > 1 else np.eye(x.shape[1])
        spread = np.sqrt(np.diag(shrunk))
        correlation = shrunk / np.outer(spread, spread)
        away = asked - mine.mean(0)
        scores.append(-np.einsum("ni,ij,nj->n", away, np.linalg.inv(correlation), away))
    return np.stack(scores, 1)


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("gamma", [0.01, 1.0, 10.0])
def test_it_is_the_distance_of_the_paper(power: float, gamma: float) -> None:
    material, asked = features_of(LABELS, noise=3), random_features(9, 5)
    learner = FeCAM(FeCAMSettings(power, gamma)).learn(Session.of(material, LABELS))
    expected = by_definition(
        transformed(material, material, power),
        np.array(LABELS),
        transformed(material, asked, power),
        gamma,
        learner.classes,
    )
    np.testing.assert_allclose(learner._scores(asked), expected, rtol=1e-9)


@pytest.mark.parametrize("count", [1, 3, 7])  # The mean of three equal numbers is not quite that number.
def test_clips_that_are_all_alike_have_the_plain_distance(count: int) -> None:
    alike, others = random_features(1, 3)[torch.zeros(count, dtype=torch.long)], random_features(6, 4)
    learner = FeCAM().learn(Session.of(others, "bbbccc"))
    learner.learn(Session.of(alike, "a" * count))
    x, q = transformed(others, alike, 0.5)[0], transformed(others, random_features(5, 9), 0.5)
    found = learner._scores(random_features(5, 9))[:, learner.classes.index("a")]
    np.testing.assert_allclose(found, -((q - x) ** 2).sum(1), rtol=1e-9)


def test_a_class_keeps_fewer_rows_than_it_has_clips_and_never_more_than_columns() -> None:
    learner = FeCAM().learn(Session.of(features_of(LABELS, noise=3), LABELS))
    columns = learner.centres.means.shape[1]
    rows = {name: int((learner.owner == i).sum()) for i, name in enumerate(learner.classes)}
    assert rows == {"a": 8, "b": 1, "c": min(59, columns), "d": 0}
    held = sum(array.nbytes for array in learner.state().values())
    numbers = (sum(rows.values()) + len(rows)) * columns + 2 * columns
    assert 8 * numbers <= held <= 8 * numbers + 10_000  # The generator, owners, names.


def test_a_class_of_one_clip_that_comes_again_has_a_covariance() -> None:
    material = features_of(LABELS, noise=3)
    learner = FeCAM().learn(Session.of(material, LABELS))
    more = features_of("dd", 7, noise=3)
    learner.learn(Session.of(more, "dd"))
    x = transformed(material, more, 0.5)
    all_of = np.vstack([transformed(material, material, 0.5)[-1:], x])
    expected = by_definition(all_of, np.array(["d"] * 3), x, 1.0, ("d",))
    found = learner._scores(more)[:, learner.classes.index("d")]
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-9)


@pytest.mark.parametrize("settings", [FeCAMSettings(power=0), FeCAMSettings(power=2), FeCAMSettings(shrinkage=0)])
def test_settings_that_mean_nothing_are_refused(settings: FeCAMSettings) -> None:
    with pytest.raises(HarkbackError, match="fecam"):
        FeCAM(settings)
