"""Kernel LDA against its definition, and its random features against the kernel they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fakes import random_features, without
from harkback.errors import HarkbackError
from harkback.learners.klda import KLDA, KLDASettings
from harkback.pooling import summaries
from harkback.stream import Session

CLASSES = "abcde"


def labels_of(clips: int) -> list[str]:
    return [CLASSES[i * 7 % 5] for i in range(clips)]


@pytest.mark.parametrize("bandwidth", [0.5, 1.0])
def test_random_features_multiply_to_the_kernel(bandwidth: float) -> None:
    material = random_features(12)
    learner = KLDA(KLDASettings(40_000, bandwidth)).learn(Session.of(material, labels_of(12)))
    x = torch.cat(summaries(material), 1).numpy()
    x = (x - x.mean(0)) / x.std(0)
    squares = ((x[:, None] - x) ** 2).sum(2)
    off = ~np.eye(12, dtype=bool)
    assert squares[off].mean() == pytest.approx(2 * x.shape[1] * 12 / 11)  # What the bandwidth is a share of, squared.
    expected = np.exp(-squares / (2 * bandwidth**2 * 2 * x.shape[1]))
    z = learner._lift(torch.cat(learner.standard(material), 1)).numpy()
    assert np.abs(z @ z.T - expected).max() < 5 / np.sqrt(40_000)
    assert 0.01 < expected[off].min() < expected[off].max() < 0.9


@pytest.mark.parametrize(("clips", "features"), [(40, 100), (200, 30)])
@pytest.mark.parametrize("shrinkage", [1e-3, 0.1, 0.9])
def test_it_is_lda_on_the_lifted_clips(clips: int, features: int, shrinkage: float) -> None:
    material = without(random_features(clips), sound=range(0, clips, 9), picture=range(4, clips, 11))
    labels, asked = np.array(labels_of(clips)), random_features(8, 5)
    learner = KLDA(KLDASettings(features, shrinkage=shrinkage)).learn(Session.of(material, labels.tolist()))
    z, q = (
        learner._lift(torch.cat(learner.standard(material), 1)).numpy(),
        learner._lift(torch.cat(learner.standard(asked), 1)).numpy(),
    )
    parts = [z[labels == name] for name in learner.classes]
    sigma = sum(len(part) * np.cov(part.T, bias=True) for part in parts) / clips
    inverse = np.linalg.inv((1 - shrinkage) * sigma + shrinkage * np.trace(sigma) / features * np.eye(features))
    expected = np.stack([q @ inverse @ m - m @ inverse @ m / 2 for m in (part.mean(0) for part in parts)], 1)
    found = learner._scores(asked).numpy()
    # All scores of a clip may move alike: who wins, and by how much, is what they say.
    centred = expected - expected.mean(1, keepdims=True)
    np.testing.assert_allclose(found - found.mean(1, keepdims=True), centred, rtol=0, atol=1e-9 * np.abs(centred).max())


def test_a_clip_of_each_class_is_told_by_the_nearest() -> None:
    material = random_features(5)
    learner = KLDA(KLDASettings(2_000)).learn(Session.of(material, list(CLASSES)))
    assert learner.scores(material).argmax(1).tolist() == [0, 1, 2, 3, 4]


def test_what_is_kept_is_a_row_for_each_clip_and_no_projection() -> None:
    learner = KLDA(KLDASettings(500))
    for session in range(3):
        learner.learn(Session.of(random_features(20, session), labels_of(20)))
    # A clip's row is about its class's mean, so a class has one row less than clips.
    assert len(learner.root.rows) == 60 - 5
    held = sum(array.nbytes for array in learner.state().values())
    columns = torch.cat(summaries(random_features(1)), 1).shape[1]
    numbers = (55 + 5 + 5) * 500 + 2 * columns
    assert 8 * numbers <= held <= 8 * numbers + 10_000  # The generator, counts, names.


@pytest.mark.parametrize("settings", [KLDASettings(shrinkage=0), KLDASettings(shrinkage=1), KLDASettings(bandwidth=0)])
def test_settings_that_mean_nothing_are_refused(settings: KLDASettings) -> None:
    with pytest.raises(HarkbackError, match="klda"):
        KLDA(settings)
