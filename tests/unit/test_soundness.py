"""What was learnt and has no solution, as in a model that was tampered with, is told in one line where it is solved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fakes import features_of, small
from harkback.errors import HarkbackError
from harkback.examiner import Examiner
from harkback.ledger import strangeness
from harkback.registry import LEARNERS
from harkback.stream import Session


def tampered(kind: str, array: str) -> tuple[Any, Any]:
    """A learner of six clips, whose sums no clips can have; and six clips."""
    made, clips = small_learner(kind), features_of("ababab", seed=1)
    made.learn(Session.of(clips, "ababab"))
    state = made.state()
    return small_learner(kind).restore({**state, array: state[array] + 1e6 * (1 - torch.eye(len(state[array])))}), clips


def small_learner(kind: str) -> Any:
    found = LEARNERS.load(kind)
    return found(small(found.Settings()), memory=4)


def test_what_was_tampered_with_is_told_where_it_is_solved() -> None:
    learner, clips = tampered("hark", "moments/products")
    with pytest.raises(HarkbackError, match="how strange clips are: its sums are not finite, or too unlike"):
        strangeness(learner, clips)
    examiner = Examiner(learner, 0)
    examiner.memory.features, examiner.memory.targets = clips, torch.tensor([0, 1] * 3)
    examiner.vectors = torch.zeros(6, learner.moments.products.shape[0], dtype=torch.float64)
    with pytest.raises(HarkbackError, match="the model's exam: its sums"):
        examiner.examine(learner, torch.tensor([3, 3]))


def test_a_setting_that_no_number_holds_is_told() -> None:
    """JSON may hold it, and a stranger's model does."""
    kind = LEARNERS.load("hark")
    made = small_learner("hark")
    made.learn(Session.of(features_of("ababab", seed=1), "ababab"))
    huge = kind(replace(small(kind.Settings()), penalty=10**400), memory=4).restore(made.state())
    with pytest.raises(HarkbackError, match="how strange clips are: its sums"):
        strangeness(huge, features_of("ab", seed=2))


def test_scores_that_cannot_be_solved_for_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, clips = small_learner("ncm"), features_of("ab", seed=2)
    learner.learn(Session.of(clips, "ab"))

    def unsolvable(*_: Any) -> Any:
        return torch.linalg.cholesky(-torch.eye(2))

    monkeypatch.setattr(type(learner), "_scores", unsolvable)
    with pytest.raises(HarkbackError, match="ncm: its sums are not finite"):
        learner.scores(clips)
