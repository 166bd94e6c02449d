"""Any course of sessions: classes that come again, classes of one clip, sessions of nothing, in any order."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import features_of, session_of
from harkback.features import none_of
from harkback.learners.ncm import NCM
from harkback.learners.ridge import Ridge
from harkback.stream import Session

COURSES = st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), min_size=1, max_size=6)


@settings(max_examples=max(8, settings.default.max_examples // 4))
@given(COURSES)
def test_classes_are_born_once_in_the_order_they_come(course: list[list[str]]) -> None:
    learner = NCM()
    born: dict[str, int] = {}
    sessions = 0
    for t, labels in enumerate(course):
        learner.learn(session_of(labels, seed=t) if labels else Session.of(none_of(features_of("a").shape), ()))
        for label in labels:
            born.setdefault(label, sessions)
        sessions += bool(labels)  # A session of nothing is none.
        assert learner.classes == tuple(born)
        assert learner.born.tolist() == list(born.values())
        assert int(learner.sessions) == sessions
        assert learner.scores(features_of("abc")).shape == (3, len(born))


@settings(max_examples=max(8, settings.default.max_examples // 4))
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.data())
def test_however_clips_are_cut_into_sessions_ridge_learns_the_same(labels: list[str], data: st.DataObject) -> None:
    """Any order, any sizes: a clip at a time, classes torn apart and coming again, or all at once."""
    clips, rest = features_of(labels), list(data.draw(st.permutations(range(len(labels)))))
    whole, parts = Ridge().learn(Session.of(clips, labels)), Ridge()
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        some, rest = rest[:size], rest[size:]
        parts.learn(Session.of(clips[torch.tensor(some)], [labels[row] for row in some]))
    asked = features_of("abcd", seed=1)
    order = [parts.classes.index(name) for name in whole.classes]
    torch.testing.assert_close(parts.scores(asked)[:, order], whole.scores(asked), rtol=1e-4, atol=1e-4)
