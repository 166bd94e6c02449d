"""The MMAL-like learner: its main stream and its compensation against dense least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fakes import features_of, random_features, without
from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.learners.mmal import MMAL, MMALSettings
from harkback.lift import projection
from harkback.pooling import summaries
from harkback.stream import Session

Array = NDArray[np.float64]
LABELS = list("abcab" * 6)
FEATURES = 40


def streams(learner: MMAL, first: Features, asked: Features) -> tuple[Array, Array, Array]:
    """h, and tanh of the sound's and of the picture's projection; of clips that have both."""
    z = []
    for of, x in zip(summaries(first), summaries(asked), strict=True):
        z.append(((x - of.mean(0)) / of.std(0, correction=0)).numpy())
    z.append(np.hstack(z))
    parts = [
        x @ projection(int(learner.seed) + i, x.shape[1], FEATURES).numpy() / np.sqrt(x.shape[1])
        for i, x in enumerate(z)
    ]
    return np.maximum(np.hstack(parts), 0), np.tanh(parts[0]), np.tanh(parts[1])


def solved(h: Array, y: Array, share: float) -> Array:
    """Ridge regression whose penalty is a share of the mean square length of h."""
    dense = h.T @ h + share * (h**2).sum() / len(h) * np.eye(h.shape[1])
    return np.asarray(np.linalg.solve(dense, h.T @ y))


def one_hot(labels: list[str], classes: tuple[str, ...]) -> Array:
    return np.array([[float(label == name) for name in classes] for label in labels])


@pytest.mark.parametrize("compensation", [0.0, 1.0, 2.0])
def test_one_session_is_a_fusion_and_half_of_what_each_modality_adds(compensation: float) -> None:
    material, asked = features_of(LABELS, noise=4), random_features(9, 5)
    learner = MMAL(MMALSettings(FEATURES, 0.1, compensation)).learn(Session.of(material, LABELS))
    (h, a, v), (hq, aq, vq) = (streams(learner, material, clips) for clips in (material, asked))
    y = one_hot(LABELS, learner.classes)
    weight = solved(h, y, 0.1)
    left = y - h @ weight
    expected = hq @ weight + compensation / 2 * (aq @ solved(a, left, 0.1) + vq @ solved(v, left, 0.1))
    np.testing.assert_allclose(learner._scores(asked), expected, rtol=0, atol=1e-9)


def test_compensation_is_of_the_session_s_own_classes_by_the_main_stream_of_its_time() -> None:
    first, second = features_of(LABELS, noise=4), features_of("cdecd" * 4, 1, noise=4)
    learner = MMAL(MMALSettings(FEATURES))
    left = []
    for material, labels in ((first, LABELS), (second, list("cdecd" * 4))):
        learner.learn(Session.of(material, labels))
        y = one_hot(labels, tuple("abcde"))[:, : len(learner.classes)]
        rest = y - streams(learner, first, material)[0] @ learner.weight.numpy()
        rest[:, [name not in labels for name in learner.classes]] = 0
        left.append(np.pad(rest, ((0, 0), (0, 5 - rest.shape[1]))))
    assert learner.classes == tuple("abcde")
    a = np.vstack([streams(learner, first, material)[1] for material in (first, second)])
    np.testing.assert_allclose(learner.audio_weight, solved(a, np.vstack(left), 0.1), rtol=0, atol=1e-9)


def test_a_missing_modality_says_nothing_in_its_streams() -> None:
    material = features_of(LABELS, noise=4)
    learner = MMAL(MMALSettings(FEATURES)).learn(Session.of(material, LABELS))
    audio, visual, joint = learner._streams(*learner.standard(without(material, sound=[0], picture=[1])))
    assert not audio[0].any() and visual[0].any() and joint[0].any()
    assert not visual[1].any() and audio[1].any() and joint[1].any()


def test_a_modality_that_is_never_there_changes_nothing() -> None:
    """As when the harness keeps it back: one token of one number for every clip."""
    material = features_of(LABELS, noise=1)
    none = torch.zeros(len(LABELS), dtype=torch.bool)
    deaf = Features(material.ids, torch.zeros(len(LABELS), 1, 1).half(), material.visual, none, material.seen)
    learner = MMAL(MMALSettings(FEATURES)).learn(Session.of(deaf, LABELS))
    assert not learner.audio_weight.any()
    said = [learner.classes[i] for i in learner.scores(deaf).argmax(1).tolist()]
    assert said == LABELS


def test_what_is_kept_is_three_rows_for_each_clip_and_no_projection() -> None:
    learner = MMAL(MMALSettings(FEATURES))
    for session in range(2):
        learner.learn(Session.of(random_features(10, session), "ab" * 5))
    held = sum(array.nbytes for array in learner.state().values())
    columns = torch.cat(summaries(random_features(1)), 1).shape[1]
    numbers = 20 * (5 * FEATURES + 3 * 2) + 5 * FEATURES * 2 + 2 * columns
    assert 8 * numbers <= held <= 8 * numbers + 10_000  # The generator, counts, names.


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(HarkbackError, match="penalty of mmal"):
        MMAL(MMALSettings(penalty=0.0))
