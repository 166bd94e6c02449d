"""Learners that are exact given the first session: neither cuts nor the order of what follows change them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fakes import features_of, random_features, without
from harkback.features import Features, join
from harkback.learners.base import Learner
from harkback.learners.fecam import FeCAM
from harkback.learners.klda import KLDA, KLDASettings
from harkback.learners.mmal import MMAL, MMALSettings
from harkback.learners.ranpac import RanPAC, RanPACSettings
from harkback.registry import LEARNERS
from harkback.stream import Session

FIRST = list("abcab" * 4)
REST = list("bdedc" * 8)
MADE = {
    "fecam": lambda: FeCAM(),
    "klda, more features than clips": lambda: KLDA(KLDASettings(100)),
    "klda, fewer features than clips": lambda: KLDA(KLDASettings(20)),
    "mmal": lambda: MMAL(MMALSettings(40, compensation=0)),
    "ranpac, more features than clips": lambda: RanPAC(RanPACSettings(100, penalty=10.0)),
    "ranpac, fewer features than clips": lambda: RanPAC(RanPACSettings(20, penalty=10.0)),
}


def clips() -> tuple[Features, Features]:
    """Some deaf, some blind."""
    first, rest = features_of(FIRST, 0, noise=3), features_of(REST, 1, noise=3)
    return without(first, sound=[2, 7], picture=[3]), without(rest, sound=range(0, 40, 9), picture=range(4, 40, 11))


def taught(name: str, *sessions: tuple[Features, list[str]]) -> Learner[Any]:
    learner: Learner[Any] = MADE[name]()
    for features, labels in sessions:
        learner.learn(Session.of(features, labels))
    return learner


def exact(learner: Learner[Any], asked: Features) -> Tensor:
    """Scores in float64 with columns in the order of the alphabet; only differences count for some."""
    scores = learner._scores(asked)[:, [learner.classes.index(name) for name in "abcde"]]
    return scores - scores.mean(1, keepdim=True)


def cut(order: list[int], cuts: list[int]) -> list[tuple[Features, list[str]]]:
    rest = clips()[1]
    return [
        (rest[torch.tensor(order[a:b])], [REST[row] for row in order[a:b]])
        for a, b in itertools.pairwise([0, *sorted(cuts), len(order)])
    ]


@given(st.permutations(range(len(REST))), st.lists(st.integers(1, len(REST) - 1), max_size=4, unique=True))
@pytest.mark.parametrize("name", MADE)
def test_clips_in_any_order_and_any_parts(name: str, order: list[int], cuts: list[int]) -> None:
    asked = random_features(6, 5)
    first = clips()[0], FIRST
    at_once = exact(taught(name, first, (clips()[1], REST)), asked)
    found = exact(taught(name, first, *cut(order, cuts)), asked)
    np.testing.assert_allclose(found, at_once, rtol=0, atol=1e-10 * float(at_once.abs().max()))


@pytest.mark.parametrize("name", MADE)
def test_class_by_class_is_all_at_once(name: str) -> None:
    asked, first = random_features(6, 5), (clips()[0], FIRST)
    at_once = exact(taught(name, first, (clips()[1], REST)), asked)
    for order in ("bcde", "edcb", "dbec"):
        rows = [[row for row, label in enumerate(REST) if label == each] for each in order]
        edges = list(itertools.accumulate(len(each) for each in rows))[:-1]
        found = exact(taught(name, first, *cut(list(itertools.chain(*rows)), edges)), asked)
        np.testing.assert_allclose(found, at_once, rtol=0, atol=1e-10 * float(at_once.abs().max()))


def test_what_the_compensation_of_mmal_adds_does_depend_on_the_order() -> None:
    (first, rest), asked = clips(), random_features(6, 5)
    found = []
    for sessions in ([(first, FIRST), (rest, REST)], [(join([first, rest]), FIRST + REST)]):
        learner = MMAL(MMALSettings(40))
        for features, labels in sessions:
            learner.standard.learn(first)  # The first session is not what differs.
            learner.learn(Session.of(features, labels))
        found.append(exact(learner, asked))
    assert (found[0] - found[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["balanced-ridge", "fecam", "klda", "mmal", "ncm", "ranpac", "ridge", "slda"])
def test_fitted_parameters_are_arrays_of_the_state(name: str) -> None:
    kind = LEARNERS.load(name)
    learner = kind().learn(Session.of(features_of(FIRST), FIRST))
    state = learner.state()
    assert kind.FITTED
    for each in kind.FITTED:
        assert state[each.replace(".", "/")].numel() > 0
