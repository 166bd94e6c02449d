"""RanPAC against the dense problem it says it solves, its choice of the penalty against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fakes import features_of, random_features, without
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.learners.ranpac import PENALTIES, RanPAC, RanPACSettings
from harkback.lift import projection
from harkback.pooling import summaries
from harkback.stream import Session

Array = NDArray[np.float64]
CLASSES = "abcde"


def labels_of(clips: int) -> list[str]:
    return [CLASSES[i * 7 % 5] for i in range(clips)]


def lifted(learner: RanPAC, first: Features, asked: Features) -> Array:
    """ReLU(x R) of clips that all have sound and picture, standardised by the first session."""
    x, of = (torch.cat(summaries(features), 1).numpy() for features in (asked, first))
    z = (x - of.mean(0)) / of.std(0)
    drawn = projection(int(learner.seed), z.shape[1], learner.settings.features).numpy()
    return np.maximum(z @ drawn, 0)


def solved(h: Array, y: Array, penalty: float) -> Array:
    """Least squares with the penalty as extra rows."""
    rows = np.vstack([h, np.sqrt(penalty) * np.eye(h.shape[1])])
    weight: Array = np.linalg.lstsq(rows, np.vstack([y, np.zeros((h.shape[1], y.shape[1]))]), rcond=None)[0]
    return weight


def one_hot(labels: list[str], classes: tuple[str, ...]) -> Array:
    return np.array([[float(label == name) for name in classes] for label in labels])


@pytest.mark.parametrize(("clips", "features"), [(30, 90), (90, 30)])
@pytest.mark.parametrize("penalty", [1e-2, 1.0, 1e4])
def test_it_is_ridge_regression_on_rectified_projections(clips: int, features: int, penalty: float) -> None:
    material, labels, asked = random_features(clips), labels_of(clips), random_features(7, 5)
    learner = RanPAC(RanPACSettings(features, penalty)).learn(Session.of(material, labels))
    weight = solved(lifted(learner, material, material), one_hot(labels, learner.classes), penalty)
    np.testing.assert_allclose(learner._scores(asked), lifted(learner, material, asked) @ weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("clips", "features"), [(40, 25), (100, 12), (60, 200)])
def test_the_penalty_is_the_best_of_all_on_a_fifth_of_the_session(clips: int, features: int) -> None:
    learner = RanPAC(RanPACSettings(features), seed=3)
    sessions = [features_of(labels_of(clips), session, noise=4) for session in range(3)]
    first = sessions[0]
    for material in sessions:
        some = torch.Generator()
        some.set_state(learner.generator.get_state())
        learner.learn(Session.of(material, labels_of(clips)))
        order = torch.randperm(clips, generator=some).numpy()
        h, y = lifted(learner, first, material)[order], one_hot(labels_of(clips), learner.classes)[order]
        cut = int(0.8 * clips)
        errors = [((h[cut:] @ solved(h[:cut], y[:cut], penalty) - y[cut:]) ** 2).mean() for penalty in PENALTIES]
        assert float(learner.penalty) == PENALTIES[int(np.argmin(errors))]
        assert 0 < np.argmin(errors) < len(PENALTIES) - 1  # Else it says little.


def test_the_paper_s_grid() -> None:
    assert len(PENALTIES) == 17
    np.testing.assert_allclose(PENALTIES, np.logspace(-8, 8, 17))


def test_a_session_too_small_to_try_keeps_the_penalty() -> None:
    learner = RanPAC(RanPACSettings(32), seed=1).learn(Session.of(features_of("abab" * 10, noise=4), "abab" * 10))
    before = float(learner.penalty)
    learner.learn(Session.of(random_features(1, 4), "c"))
    assert float(learner.penalty) == before != 1
    assert float(RanPAC(RanPACSettings(32)).learn(Session.of(random_features(1), "a")).penalty) == 1


def test_more_clips_than_random_features() -> None:
    """20,000 clips: what is kept does not grow beyond the Gram matrix's own size."""
    clips, features = 20_000, 24
    material = without(random_features(clips), sound=range(0, clips, 3), picture=range(0, clips, 5))
    labels = labels_of(clips)
    learner = RanPAC(RanPACSettings(features, 10.0))
    for rows in torch.arange(clips).split(7_000):
        learner.learn(Session.of(material[rows], [labels[row] for row in rows.tolist()]))
    assert learner.root.gram.shape == (features, features) and not len(learner.root.rows)
    h = learner._lift(torch.cat(learner.standard(material), 1))
    y = torch.from_numpy(one_hot(labels, learner.classes))
    dense = torch.linalg.solve(h.T @ h + 10 * torch.eye(features), h.T @ y)
    np.testing.assert_allclose(learner.weight, dense, rtol=0, atol=1e-10 * float(dense.abs().max()))


def test_what_is_kept_is_a_row_for_each_clip_and_no_projection() -> None:
    learner = RanPAC(RanPACSettings(500, 1.0))
    for session in range(3):
        learner.learn(Session.of(features_of(labels_of(20), session), labels_of(20)))
    held = sum(array.nbytes for array in learner.state().values())
    columns = torch.cat(summaries(random_features(1)), 1).shape[1]
    rows, weight, standard = 60 * (500 + 5), 500 * 5, 2 * columns
    assert 8 * (rows + weight + standard) <= held <= 8 * (rows + weight + standard) + 10_000  # The generator, names.


@pytest.mark.parametrize("penalty", [0.0, -1.0])
def test_a_penalty_that_is_not_above_nothing_is_refused(penalty: float) -> None:
    with pytest.raises(HarkbackError, match="penalty of ranpac"):
        RanPAC(RanPACSettings(penalty=penalty))
