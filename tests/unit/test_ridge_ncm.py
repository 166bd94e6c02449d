"""The linear learners against the dense problems they say they solve, and against any order of the classes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import SHAPE, random_features, without
from harkback.features import Features
from harkback.learners.balanced_ridge import BalancedRidge
from harkback.learners.ncm import NCM
from harkback.learners.ridge import Ridge, RidgeSettings
from harkback.learners.slda import SLDA, SLDASettings
from harkback.pooling import pooled
from harkback.stream import Session

Array = NDArray[np.float64]
Linear = BalancedRidge | NCM | Ridge | SLDA
CLIPS = 60
CLASSES = "abcde"
ALL = [BalancedRidge, NCM, Ridge, SLDA]


def material(seed: int = 0) -> tuple[Features, list[str]]:
    """Clips of five classes, some deaf and some blind."""
    labels = [CLASSES[i * 7 % 5] for i in range(CLIPS)]
    return without(random_features(CLIPS, seed), sound=range(0, CLIPS, 9), picture=range(4, CLIPS, 11)), labels


def standardised(x: Array, of: Array) -> Array:
    spread = of.std(0)
    scale: Array = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)
    return np.asarray((x - of.mean(0)) * scale)


def ridge_by_definition(x: Array, y: Array, penalty: float, asked: Array) -> Array:
    """Least squares with the penalty as extra rows: numpy's solver, on the data, in one piece."""
    z = standardised(x, x)
    rows = np.vstack([z, np.sqrt(len(x) * penalty) * np.eye(x.shape[1])])
    aims = np.vstack([y - y.mean(0), np.zeros((x.shape[1], y.shape[1]))])
    weight = np.linalg.lstsq(rows, aims, rcond=None)[0]
    return np.asarray(standardised(asked, x) @ weight + y.mean(0))


def slda_by_definition(x: Array, y: Array, shrinkage: float, asked: Array) -> Array:
    z, q = standardised(x, x), standardised(asked, x)
    parts = [z[y[:, c] > 0] for c in range(y.shape[1])]
    within = sum(len(part) * np.cov(part.T, bias=True) for part in parts) / len(x)
    inverse = np.linalg.inv((1 - shrinkage) * within + shrinkage * np.eye(x.shape[1]))
    return np.stack([q @ inverse @ part.mean(0) - part.mean(0) @ inverse @ part.mean(0) / 2 for part in parts], 1)


def recursively(z: Array, y: Array, gamma: float, blocks: list[list[int]]) -> Array:
    """ACIL's recursive least squares (arXiv 2205.14922, eq. 9 and 10): the inverse is moved, no sum is kept."""
    inverse, weight = np.eye(z.shape[1]) / gamma, np.zeros((z.shape[1], 0))
    for block in blocks:
        h, known = z[block], max(weight.shape[1], int(y[block].argmax(1).max()) + 1)
        weight = np.pad(weight, ((0, 0), (0, known - weight.shape[1])))
        inverse = inverse - inverse @ h.T @ np.linalg.inv(np.eye(len(h)) + h @ inverse @ h.T) @ h @ inverse
        weight = weight + inverse @ h.T @ (y[block, :known] - h @ weight)
    return weight


def ncm_by_definition(x: Array, y: Array, asked: Array) -> Array:
    z, q = standardised(x, x), standardised(asked, x)
    centres = np.stack([z[y[:, c] > 0].mean(0) for c in range(y.shape[1])])
    return np.array([[q_i @ c / np.linalg.norm(q_i) / np.linalg.norm(c) for c in centres] for q_i in q])


def one_hot(labels: list[str], classes: tuple[str, ...]) -> Array:
    return np.array([[float(label == name) for name in classes] for label in labels])


def taught(learner: Linear, rows: list[list[int]], seed: int = 0) -> Linear:
    features, labels = material(seed)
    for part in rows:
        learner.learn(Session.of(features[torch.tensor(part)], [labels[row] for row in part]))
    return learner


def exact(learner: Linear, asked: Features, columns: str = CLASSES) -> Array:
    """The scores before they are rounded to float32, with columns in the order of the alphabet."""
    order = [learner.classes.index(name) for name in columns]
    return np.asarray(learner._scores(asked)[:, order].numpy())


def sessions_of(order: str) -> list[list[int]]:
    """A session for each class, in that order."""
    labels = material()[1]
    return [[row for row in range(CLIPS) if labels[row] == name] for name in order]


@pytest.mark.parametrize("penalty", [0.1, 1e-4, 10.0])
def test_ridge_is_the_dense_solution(penalty: float) -> None:
    features, labels = material()
    asked = without(random_features(8, 5), sound=[1], picture=[1, 2])
    learner = taught(Ridge(RidgeSettings(penalty)), [list(range(CLIPS))])
    expected = ridge_by_definition(
        pooled(features).numpy(), one_hot(labels, learner.classes), penalty, pooled(asked).numpy()
    )
    np.testing.assert_allclose(learner._scores(asked).numpy(), expected, rtol=0, atol=1e-8)


def test_recursive_least_squares_comes_to_the_same() -> None:
    """Class by class, a few clips at a time, on the vectors as they will be standardised in the end."""
    features, labels = material()
    by_class = sessions_of("cadbe")
    learner = taught(Ridge(RidgeSettings(0.1)), by_class)
    z = standardised(pooled(features).numpy(), pooled(features).numpy())
    blocks = [block[i : i + 5] for block in by_class for i in range(0, len(block), 5)]
    weight = recursively(z, one_hot(labels, learner.classes), 0.1 * CLIPS, blocks)
    mine = learner._scores(features).numpy()
    np.testing.assert_allclose(mine - mine.mean(0), z @ weight, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shrinkage", [1e-4, 0.1, 1.0])
def test_slda_is_the_dense_solution(shrinkage: float) -> None:
    features, labels = material()
    asked = without(random_features(8, 5), sound=[1], picture=[1, 2])
    learner = taught(SLDA(SLDASettings(shrinkage)), [list(range(CLIPS))])
    expected = slda_by_definition(
        pooled(features).numpy(), one_hot(labels, learner.classes), shrinkage, pooled(asked).numpy()
    )
    np.testing.assert_allclose(learner._scores(asked).numpy(), expected, rtol=1e-10, atol=1e-10)


def test_ncm_is_the_cosine_to_the_class_means() -> None:
    features, labels = material()
    asked = without(random_features(8, 5), sound=[1], picture=[1, 2])
    learner = taught(NCM(), [list(range(CLIPS))])
    expected = ncm_by_definition(pooled(features).numpy(), one_hot(labels, learner.classes), pooled(asked).numpy())
    np.testing.assert_allclose(learner._scores(asked).numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("order", ["abcde", "edcba", "cadbe"])
def test_class_by_class_in_any_order_is_all_at_once(kind: type[Linear], order: str) -> None:
    asked = random_features(8, 5)
    at_once = exact(taught(kind(), [list(range(CLIPS))]), asked)
    by_class = taught(kind(), sessions_of(order))
    assert by_class.classes == tuple(order)
    np.testing.assert_allclose(exact(by_class, asked), at_once, rtol=0, atol=1e-9)


@given(st.permutations(range(CLIPS)), st.lists(st.integers(1, CLIPS - 1), max_size=5, unique=True))
@pytest.mark.parametrize("kind", [Ridge, NCM, SLDA])
def test_clips_in_any_order_and_any_parts(kind: type[Linear], order: list[int], cuts: list[int]) -> None:
    """Classes that come again, sessions of one clip, and what not."""
    edges = [0, *sorted(cuts), CLIPS]
    parts = [order[a:b] for a, b in itertools.pairwise(edges)]
    asked = random_features(4, 5)
    at_once = exact(taught(kind(), [list(range(CLIPS))]), asked)
    np.testing.assert_allclose(exact(taught(kind(), parts), asked), at_once, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
def test_units_do_not_matter(kind: type[Linear]) -> None:
    """Twice the tokens, and all of them moved: in float64, so that what is off is the learner's own rounding."""
    features, labels = material()
    whole = Features(
        features.ids, features.audio.double(), features.visual.double(),
        torch.ones(CLIPS, dtype=torch.bool), torch.ones(CLIPS, dtype=torch.bool),
    )  # fmt: skip
    moved = Features(whole.ids, whole.audio * 4 + 16, whole.visual * 2 - 8, whole.heard, whole.seen)
    one, other = (kind().learn(Session.of(x, labels)) for x in (whole, moved))
    np.testing.assert_allclose(one._scores(whole).numpy(), other._scores(moved).numpy(), rtol=0, atol=1e-8)


def constant(features: Features, value: float) -> Features:
    """One dimension of the sound is the same in every clip; over time it rises, so its mean and deviation are odd."""
    audio = features.audio.float()
    audio[..., 0] = value * (1 + 0.01 * torch.arange(SHAPE.audio_tokens))
    return Features(features.ids, audio.half(), features.visual, features.heard, features.seen)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("value", [0.0, 1.0, 57.3, 1234.5])
def test_a_column_that_never_moved_says_nothing(
    kind: type[Linear], value: float, request: pytest.FixtureRequest
) -> None:
    """However far from zero it lies: rounding must not be taken for movement."""
    labels = [CLASSES[i % 5] for i in range(300)]
    clips = random_features(300, 3)
    learner = kind()
    for part in range(0, 300, 50):
        rows = torch.arange(part, part + 50)
        learner.learn(Session.of(constant(clips, value)[rows], [labels[row] for row in rows.tolist()]))
    asked = random_features(6, 4)
    scores = [learner._scores(constant(asked, value + change)).numpy() for change in (0.0, 2.0)]
    assert np.isfinite(scores[0]).all()
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-6)


def test_one_clip_is_all_there_is() -> None:
    for learner in (kind() for kind in ALL):
        learner.learn(Session.of(random_features(1), ["a"]))
        assert learner.scores(random_features(3, 2)).isfinite().all()


def test_more_columns_than_clips() -> None:
    features = random_features(4)
    learner = Ridge().learn(Session.of(features, list("abab")))
    x, y = pooled(features).numpy(), one_hot(list("abab"), learner.classes)
    assert x.shape[1] > len(x)
    expected = ridge_by_definition(x, y, 0.1, x)
    np.testing.assert_allclose(learner._scores(features).numpy(), expected, rtol=0, atol=1e-9)


def test_nothing_but_sums_is_kept() -> None:
    columns = 3 * (SHAPE.audio_dim + SHAPE.visual_dim) + 2
    square = columns * columns + 20 * columns + 100
    for learner, most in ((NCM(), 7 * columns + 100), *((kind(), square) for kind in (BalancedRidge, Ridge, SLDA))):
        for t in range(3):
            features, labels = material(t)
            learner.learn(Session.of(features, labels))
        held = sum(array.numel() for name, array in learner.state().items() if name not in ("classes", "generator"))
        assert held <= most
