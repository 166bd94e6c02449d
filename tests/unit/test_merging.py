"""Two learners that become one: against one that was taught all, and against sums over the clips themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fakes import features_of, random_features, same_state, small
from harkback.errors import HarkbackError
from harkback.gram import Centres, Root
from harkback.learners.base import Learner
from harkback.learners.ranpac import RanPAC, RanPACSettings
from harkback.learners.ridge import Ridge, RidgeSettings
from harkback.ledger import Mergeable
from harkback.moments import Moments
from harkback.registry import LEARNERS
from harkback.stream import Session

ALL = LEARNERS.names()
MERGEABLE = [name for name in ALL if isinstance(LEARNERS.load(name)(), Mergeable)]
FIRST, SECOND, THIRD, AGAIN = "babaabba", "dcdccdcc", "ffffffeee", "eadbeadbaa"


def made(name: str, **changes: Any) -> Learner[Any]:
    kind = LEARNERS.load(name)
    settings = small(kind.Settings())
    if name == "ranpac":  # Else clips of the last session choose it.
        settings = replace(settings, penalty=3.0)
    learner: Learner[Any] = kind(replace(settings, **changes), seed=1)
    return learner


def session(labels: Sequence[str], seed: int) -> Session:
    return Session.of(features_of(labels, seed, noise=3.0), labels)


def scores_of(learner: Learner[Any]) -> dict[str, Tensor]:
    """By class name."""
    scores = learner.scores(random_features(9, seed=8))
    return {name: scores[:, column] for column, name in enumerate(learner.classes)}


def close(one: Learner[Any], other: Learner[Any]) -> None:
    mine, its = scores_of(one), scores_of(other)
    assert mine.keys() == its.keys()
    for name, scores in mine.items():
        torch.testing.assert_close(scores, its[name], rtol=1e-6, atol=1e-6)


def test_the_learners_that_can_be_merged() -> None:
    assert set(MERGEABLE) >= {"ncm", "slda", "ridge", "balanced-ridge", "fecam", "klda", "ranpac"}
    assert not set(MERGEABLE) & {
        "l3",
        "icarl",
        "joint",
        "hark",
        "mmal",
    }  # A network; a look, and rests, of their order.


@pytest.mark.parametrize("features", [64, 6], ids=["more columns than clips", "fewer"])
@pytest.mark.parametrize("name", MERGEABLE)
def test_two_that_are_merged_know_what_one_does_that_was_taught_all(name: str, features: int) -> None:
    """Classes of the one, of the other and of both, which each has in another order."""
    changes = {"features": features} if hasattr(made(name).settings, "features") else {}
    last = THIRD if name == "balanced-ridge" else AGAIN  # Which is exact while each class comes in one session.
    one, whole = made(name, **changes).learn(session(FIRST, 0)), made(name, **changes)
    other = one.begin()
    one.learn(session(SECOND, 1))
    other.learn(session(last[:6], 2)).learn(session(last[6:], 3))
    for labels, seed in ((FIRST, 0), (SECOND, 1), (last[:6], 2), (last[6:], 3)):
        whole.learn(session(labels, seed))
    backwards = other.begin().merge(other).merge(one)  # Taken the other way.
    before = other.state()
    assert one.merge(other) is one
    assert same_state(other.state(), before)
    assert one.classes == whole.classes
    assert torch.equal(one.born, whole.born)
    assert one.sessions == whole.sessions
    close(one, whole)
    close(backwards, whole)
    assert backwards.classes != whole.classes
    again = made(name, **changes).restore(one.state())
    for learner in (one, again, whole):  # And all of them go on as they are.
        learner.learn(session("gagg", 4) if name != "balanced-ridge" else session("gghh", 4))
    close(one, whole)
    assert same_state(one.state(), again.state())


@pytest.mark.parametrize("name", MERGEABLE)
def test_one_that_has_learnt_nothing_adds_nothing(name: str) -> None:
    one = made(name).learn(session(FIRST, 0))
    nothing = one.begin()
    assert nothing.classes == ()
    assert nothing.scores(random_features(3)).shape == (3, 0)
    before = one.state()
    assert same_state(one.merge(nothing).state(), before)


@pytest.mark.parametrize("name", [name for name in MERGEABLE if not LEARNERS.load(name).COMMON])
def test_sums_that_nothing_was_fixed_for_need_no_common_beginning(name: str) -> None:
    one, other, whole = (made(name) for _ in range(3))
    one.learn(session(FIRST, 0))
    other.learn(session(SECOND, 1))
    close(one.merge(other), whole.learn(session(FIRST, 0)).learn(session(SECOND, 1)))


@pytest.mark.parametrize("name", [name for name in MERGEABLE if LEARNERS.load(name).COMMON])
def test_what_is_measured_by_different_sessions_cannot_be_added_up(name: str) -> None:
    one, other = made(name).learn(session(FIRST, 0)), made(name).learn(session(SECOND, 1))
    before = one.state()
    with pytest.raises(HarkbackError, match="different first sessions; begin"):
        one.merge(other)
    assert same_state(one.state(), before)


def test_only_like_and_like_are_merged() -> None:
    ridge = Ridge().learn(session(FIRST, 0))
    before = ridge.state()
    with pytest.raises(HarkbackError, match="one kind and with the same settings"):
        ridge.merge(Ridge(RidgeSettings(penalty=7.0)).learn(session(SECOND, 1)))
    with pytest.raises(HarkbackError, match="one kind"):
        ridge.merge(made("ncm").learn(session(SECOND, 1)))  # type: ignore[arg-type]
    wider = Ridge().learn(Session.of(random_features(4, shape=features_of("a").shape._replace(audio_dim=9)), "cdcd"))
    with pytest.raises(HarkbackError, match="vectors of 38 and of 50 numbers"):
        ridge.merge(wider)
    assert same_state(ridge.state(), before)
    with pytest.raises(HarkbackError, match="finetune know cannot be added up"):
        made("finetune").merge(made("finetune"))
    with pytest.raises(HarkbackError, match="finetune know cannot be added up"):
        made("finetune").begin()
    balanced = made("balanced-ridge")
    with pytest.raises(HarkbackError, match="balanced-ridge: only learners of one kind"):  # As people call it.
        balanced.merge(ridge)  # type: ignore[arg-type]


def test_a_class_that_both_know_cannot_be_weighed_anew() -> None:
    one, other = (made("balanced-ridge").learn(session(labels, 0)) for labels in ("abab", "bcbc"))
    before = one.state()
    with pytest.raises(HarkbackError, match="both have learnt a class"):
        one.merge(other)
    assert same_state(one.state(), before)


def test_a_penalty_that_was_chosen_is_the_last_ones() -> None:
    one = RanPAC(RanPACSettings(features=64)).learn(session(FIRST * 3, 0))
    other = one.begin().learn(session(SECOND * 3, 1))
    other.penalty = one.penalty * 100
    assert one.merge(other).penalty == other.penalty
    assert torch.equal(one.weight, one.root.ridge(other.penalty))


# ---- sums -----------------------------------------------------------------------------------------------------------


def vectors(labels: Sequence[int], seed: int, columns: int = 5) -> Tensor:
    some = torch.Generator().manual_seed(seed)
    x = torch.randn(len(labels), columns, generator=some, dtype=torch.float64)
    return x + torch.tensor(labels, dtype=torch.float64)[:, None] + 3


@pytest.mark.parametrize("full", [True, False])
def test_moments_are_added_class_by_class(full: bool) -> None:
    """The other's classes 0, 1, 2 are 3, 0, 4 here."""
    mine, its, places = [0, 1, 2, 2, 0], [0, 1, 1, 2, 0, 2], [3, 0, 4]
    x, z = vectors(mine, 0), vectors(its, 1)
    one, other = Moments(products=full), Moments(products=full)
    one.add(x, torch.tensor(mine), 3)
    other.add(z, torch.tensor(its), 3)
    one.merge(other, torch.tensor(places), 5)
    data, labels = np.vstack([x, z]), np.array(mine + [places[label] for label in its])
    assert one.counts.tolist() == [4, 1, 2, 2, 2]
    np.testing.assert_allclose(one.sums, [data[labels == c].sum(0) for c in range(5)], rtol=1e-13)
    np.testing.assert_allclose(one.products, data.T @ data if full else (data**2).sum(0), rtol=1e-13)


def test_centres_and_what_their_distance_adds_to_the_scatter() -> None:
    mine, its, places = [0, 1, 0, 0, 1], [0, 0, 1, 1, 1], [1, 2]
    x, z = vectors(mine, 0), vectors(its, 1)
    one, other, rows = Centres(), Centres(), []
    for centres, data, labels in ((one, x, mine), (other, z, its)):
        for c in (0, 1):
            rows.append(centres.add(data[torch.tensor(labels) == c], c, 2))
    rows.append(one.merge(other, torch.tensor(places), 3))
    data, labels = np.vstack([x, z]), np.array(mine + [places[label] for label in its])
    parts = [data[labels == c] for c in range(3)]
    assert one.counts.tolist() == [3, 4, 3]
    np.testing.assert_allclose(one.means, [part.mean(0) for part in parts], rtol=1e-13)
    scatter = sum((part - part.mean(0)).T @ (part - part.mean(0)) for part in parts)
    found = torch.cat(rows)
    np.testing.assert_allclose(found.T @ found, scatter, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mine", [0, 3, 20])
@pytest.mark.parametrize("its", [0, 4, 25])
def test_roots_are_added_in_either_form(mine: int, its: int) -> None:
    """Of vectors of 8 numbers: up to 8 are kept as rows, more as sums. The other's aims 0, 1 are 3, 1 here."""
    some = torch.Generator().manual_seed(0)
    x, z = (torch.randn(count, 8, generator=some, dtype=torch.float64) for count in (mine, its))
    y, w = (torch.randn(len(h), aims, generator=some, dtype=torch.float64) for h, aims in ((x, 3), (z, 2)))
    one, other = Root(), Root()
    for root, h, aims in ((one, x, y), (other, z, w)):
        if len(h):
            root.absorb([(h, aims)])
    before = other.state()
    one.merge(other, torch.tensor([3, 1]) if its else torch.zeros(0, dtype=torch.long))
    assert same_state(other.state(), before)
    assert one.count == mine + its
    placed = torch.zeros(its, 4, dtype=torch.float64)
    placed[:, [3, 1]] = w
    told = torch.zeros(mine, 4, dtype=torch.float64)
    told[:, :3] = y
    if not mine + its:
        return
    gram, cross = x.T @ x + z.T @ z, x.T @ told + z.T @ placed
    expected = np.linalg.solve(gram.numpy() + 0.5 * np.eye(8), cross.numpy())
    found = one.ridge(0.5)
    np.testing.assert_allclose(found, expected[:, : found.shape[1]], rtol=0, atol=1e-11)
    assert not expected[:, found.shape[1] :].any()
    assert found.shape[1] == (4 if its else 3)
