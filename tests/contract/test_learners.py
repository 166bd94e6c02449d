"""What holds for every learner, whatever it does inside. A new one is covered by being in the registry."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from fakes import SHAPE, Mapped, features_of, random_features, same_state, session_of, small, without
from harkback.features import Features, none_of
from harkback.learners.base import Learner, Looks
from harkback.registry import LEARNERS
from harkback.stream import SealedError, Session

MEMORY = 5  # Fewer than the clips of a session, and no multiple of the number of classes.
FIRST = ("b", "a", "b", "a", "a", "b", "b", "a", "a", "b")
SECOND = ("d", "c", "e", "c", "d", "c", "d", "c", "d")


@pytest.fixture(params=LEARNERS.names())
def kind(request: pytest.FixtureRequest) -> type[Learner[Any]]:
    found: type[Learner[Any]] = LEARNERS.load(request.param)
    return found


def made(kind: type[Learner[Any]], seed: int = 0, memory: int = MEMORY, epochs: int | None = None) -> Learner[Any]:
    settings = small(kind.Settings())
    if epochs is not None and hasattr(settings, "train"):
        settings = replace(settings, train=replace(settings.train, epochs=epochs))
    learner: Learner[Any] = kind(settings, memory=memory, seed=seed)
    return learner


def taught(kind: type[Learner[Any]], *sessions: Sequence[str], **options: Any) -> Learner[Any]:
    """Taught the sessions one after another; a learner that wants everything again gets it."""
    learner = made(kind, **options)
    for t in range(len(sessions)):
        learner.learn(lesson(learner, sessions, t))
    return learner


def lesson(learner: Learner[Any], sessions: Sequence[Sequence[str]], t: int) -> Session:
    if not learner.cumulative:
        return session_of(sessions[t], seed=t)
    parts = [features_of(labels, seed=i) for i, labels in enumerate(sessions[: t + 1])]
    everything = Features(
        tuple(name for part in parts for name in part.ids),
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("audio", "visual", "heard", "seen")),
    )
    return Session.of(everything, [label for labels in sessions[: t + 1] for label in labels])


# ---- classes and scores ---------------------------------------------------------------------------------------------


def test_classes_grow_only_at_the_end_in_the_order_they_come(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, FIRST)
    assert learner.classes == ("b", "a")
    learner.learn(lesson(learner, (FIRST, SECOND), 1))
    assert learner.classes == ("b", "a", "d", "c", "e")


def test_scores_are_a_finite_float_of_each_class_for_each_clip(kind: type[Learner[Any]]) -> None:
    scores = taught(kind, FIRST, SECOND).scores(random_features(7, seed=9))
    assert scores.shape == (7, 5)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert not scores.requires_grad


def test_separable_classes_are_learnt(kind: type[Learner[Any]]) -> None:
    labels = ("cat", "dog", "owl", "bee") * 10
    learner = made(kind, memory=8, epochs=25).learn(session_of(labels, seed=0, noise=0.3))
    scores = learner.scores(features_of(labels, seed=1, noise=0.3))
    said = [learner.classes[column] for column in scores.argmax(1).tolist()]
    right = sum(a == b for a, b in zip(said, labels, strict=True)) / len(labels)
    assert right > 0.9  # Chance is 0.25; the clips are others than those that were learnt.


def test_a_clip_is_scored_alone_as_among_others(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, FIRST, SECOND)
    clips = without(random_features(9, seed=3), sound=[1, 4], picture=[2, 4])
    together = learner.scores(clips)
    apart = torch.cat([learner.scores(clips[torch.tensor([row])]) for row in range(9)])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
    backwards = learner.scores(clips[torch.arange(8, -1, -1)]).flip(0)
    torch.testing.assert_close(together, backwards, rtol=1e-5, atol=1e-5)


def test_more_clips_than_are_read_at_once(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, FIRST)
    clips = random_features(130, seed=3)
    scores = learner.scores(clips)
    assert scores.shape == (130, 2)
    torch.testing.assert_close(scores[125:], learner.scores(clips[torch.arange(125, 130)]), rtol=1e-5, atol=1e-5)


def test_being_asked_changes_nothing(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, FIRST)
    before = learner.state()
    clips = random_features(6, seed=3)
    first = learner.scores(clips)
    assert same_state(before, learner.state())
    assert torch.equal(first, learner.scores(clips))


def test_missing_sound_and_missing_picture_are_scored_and_learnt(kind: type[Learner[Any]]) -> None:
    clips = without(features_of(FIRST), sound=[0, 3, 7], picture=[1, 7])
    learner = made(kind).learn(Session.of(clips, FIRST))
    learner.learn(Session.of(without(features_of(FIRST, seed=1), sound=range(10)), FIRST))
    learner.learn(Session.of(without(features_of(FIRST, seed=2), picture=range(10)), FIRST))
    assert learner.scores(without(random_features(4, seed=5), sound=[0, 2], picture=[1, 2])).isfinite().all()


def test_a_first_session_with_neither_sound_nor_picture(kind: type[Learner[Any]]) -> None:
    nothing = without(random_features(4), sound=range(4), picture=range(4))
    learner = made(kind).learn(Session.of(nothing, ["a", "b", "a", "b"]))
    learner.learn(session_of(["c", "d"] * 4, seed=1))
    assert learner.scores(random_features(3, seed=2)).isfinite().all()


def test_what_stands_in_a_missing_modality_is_not_data(kind: type[Learner[Any]]) -> None:
    """Rows behind a mask mean nothing: a learner that reads them would see zeros as a picture or a sound."""
    learner = taught(kind, FIRST)
    gone = without(random_features(4, seed=5), sound=[0, 2], picture=[1, 2])
    filled = replace(gone, audio=gone.audio.clone(), visual=gone.visual.clone())
    filled.audio[[0, 2]], filled.visual[[1, 2]] = 3.0, -2.0
    torch.testing.assert_close(learner.scores(gone), learner.scores(filled), rtol=1e-5, atol=1e-5)


# ---- little or nothing ----------------------------------------------------------------------------------------------


def test_scores_before_any_session_have_no_columns(kind: type[Learner[Any]]) -> None:
    learner = made(kind)
    assert learner.classes == ()
    assert learner.scores(random_features(3)).shape == (3, 0)
    assert learner.scores(none_of(SHAPE)).shape == (0, 0)


def test_scores_of_no_clips_have_no_rows(kind: type[Learner[Any]]) -> None:
    assert taught(kind, FIRST).scores(none_of(SHAPE)).shape == (0, 2)


def test_an_empty_session_teaches_nothing(kind: type[Learner[Any]]) -> None:
    fresh = made(kind)
    before = fresh.state()
    fresh.learn(Session.of(none_of(SHAPE), ()))
    assert same_state(before, fresh.state())
    learner = taught(kind, FIRST)
    before = learner.state()
    learner.learn(Session.of(none_of(SHAPE), ()))
    assert same_state(before, learner.state())
    assert learner.classes == ("b", "a")


def test_one_clip(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, ("a",), ("b",))
    assert learner.classes == ("a", "b")
    assert learner.scores(random_features(3)).shape == (3, 2)


def test_one_class(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, ("a",) * 6)
    assert learner.scores(random_features(3)).argmax(1).tolist() == [0, 0, 0]


def test_a_class_with_one_clip_among_others(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, ("a", "b", "a", "a", "a"), ("c", "d", "d"))
    assert learner.classes == ("a", "b", "c", "d")
    assert learner.scores(random_features(3)).isfinite().all()


def test_a_class_may_come_again(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, FIRST, ("b", "c", "b", "c"), ("c", "a"))
    assert learner.classes == ("b", "a", "c")
    assert learner.born.tolist() == [0, 0, 1]
    assert learner.scores(random_features(3)).shape == (3, 3)


def test_clips_that_are_all_alike(kind: type[Learner[Any]]) -> None:
    alike = random_features(1)[torch.zeros(6, dtype=torch.long)]
    learner = made(kind).learn(Session.of(alike, ["a", "b"] * 3))
    assert learner.scores(random_features(3)).isfinite().all()


def test_class_names_are_any_text(kind: type[Learner[Any]]) -> None:
    names = ("Müller's öäü", "鐘", "a/b\\c", "", " ", "🔔\n")
    learner = taught(kind, names * 2)
    again = made(kind).restore(learner.state())
    assert again.classes == learner.classes == names


def test_a_memory_of_nothing(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, FIRST, SECOND, memory=0)
    assert learner.scores(random_features(3)).isfinite().all()


# ---- the same again -------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_learner_bit_for_bit(kind: type[Learner[Any]]) -> None:
    torch.manual_seed(1)
    one = taught(kind, FIRST, SECOND, seed=4).state()
    torch.manual_seed(2)  # Whatever else draws from torch's own generator changes nothing.
    other = taught(kind, FIRST, SECOND, seed=4).state()
    assert same_state(one, other)


def test_a_learner_that_draws_depends_on_its_seed(kind: type[Learner[Any]]) -> None:
    one, other = (taught(kind, FIRST, SECOND, seed=seed) for seed in (4, 5))
    untouched = torch.Generator().manual_seed(4).get_state()
    drew = not torch.equal(one.state()["generator"], untouched)
    clips = random_features(6, seed=9)
    assert torch.equal(one.scores(clips), other.scores(clips)) is not drew


def test_the_global_generator_is_left_alone(kind: type[Learner[Any]]) -> None:
    before = torch.get_rng_state()
    taught(kind, FIRST, SECOND).scores(random_features(3))
    assert torch.equal(before, torch.get_rng_state())


def test_the_state_is_arrays_that_safetensors_can_hold(kind: type[Learner[Any]]) -> None:
    for learner in (made(kind), taught(kind, FIRST), taught(kind, FIRST, SECOND)):
        state = learner.state()
        assert all(type(array) is Tensor and not array.requires_grad for array in state.values())
        assert same_state(state, load(save(state)))


@pytest.mark.parametrize("through_a_file", [False, True])
def test_going_on_from_a_state_equals_never_having_stopped(kind: type[Learner[Any]], through_a_file: bool) -> None:
    sessions = (FIRST, SECOND, ("f", "g", "a") * 3)
    clips = random_features(4, seed=9)
    whole = made(kind)
    states, scores = [], []
    for t in range(3):
        whole.learn(lesson(whole, sessions, t))
        states.append(load(save(whole.state())) if through_a_file else whole.state())
        scores.append(whole.scores(clips))
    for stop in range(3):
        resumed = made(kind, seed=99).restore(states[stop])  # The seed is the state's, not its own.
        assert resumed.classes == whole.classes[: len(resumed.classes)]
        assert torch.equal(resumed.scores(clips), scores[stop])
        for t in range(stop + 1, 3):
            resumed.learn(lesson(resumed, sessions, t))
        assert same_state(resumed.state(), states[2])


def test_a_state_of_nothing_learnt_can_be_restored(kind: type[Learner[Any]]) -> None:
    state = made(kind, seed=3).state()
    resumed = made(kind, seed=8).restore(state)
    assert same_state(resumed.learn(session_of(FIRST)).state(), made(kind, seed=3).learn(session_of(FIRST)).state())


def test_a_learner_becomes_an_earlier_one_again(kind: type[Learner[Any]]) -> None:
    """What undo needs: the state of a learner with fewer classes, restored over one with more."""
    learner = made(kind)
    none = learner.state()
    learner.learn(lesson(learner, (FIRST,), 0))
    one = learner.state()
    learner.learn(lesson(learner, (FIRST, SECOND), 1))
    two = learner.state()
    assert same_state(learner.restore(one).state(), one)
    assert learner.classes == ("b", "a")
    assert same_state(learner.learn(lesson(learner, (FIRST, SECOND), 1)).state(), two)
    assert same_state(learner.restore(none).state(), none)
    assert learner.scores(random_features(2)).shape == (2, 0)


def test_a_state_does_not_change_as_the_learner_goes_on(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, FIRST)
    state = learner.state()
    copy = {name: array.clone() for name, array in state.items()}
    learner.learn(lesson(learner, (FIRST, SECOND), 1))
    assert same_state(state, copy)
    learner.restore(state).learn(lesson(learner, (FIRST, SECOND), 1))
    assert same_state(state, copy)


# ---- the data -------------------------------------------------------------------------------------------------------


def test_the_features_are_not_written_to(kind: type[Learner[Any]]) -> None:
    clips, copy = (without(features_of(FIRST), sound=[1], picture=[2]) for _ in range(2))
    learner = made(kind).learn(Session.of(clips, FIRST))
    learner.scores(clips)
    assert clips.ids == copy.ids
    for name in ("audio", "visual", "heard", "seen"):
        assert torch.equal(getattr(clips, name), getattr(copy, name))


def test_rows_in_a_memory_map_are_learnt_as_those_in_memory(kind: type[Learner[Any]]) -> None:
    clips = features_of(FIRST)
    mapped = Mapped(clips)
    one, other = made(kind).learn(Session.of(clips, FIRST)), made(kind).learn(Session.of(mapped, FIRST))
    assert mapped.reads
    assert same_state(one.state(), other.state())
    assert torch.equal(one.scores(clips), other.scores(Mapped(clips)))


def test_a_closed_session_cannot_be_learnt_from(kind: type[Learner[Any]]) -> None:
    learner = made(kind)
    with session_of(FIRST) as session:
        pass
    with pytest.raises(SealedError, match="closed"):
        learner.learn(session)


def test_a_session_that_cannot_be_read_adds_no_classes(kind: type[Learner[Any]]) -> None:
    learner = made(kind)
    with session_of(FIRST) as session:
        pass
    with pytest.raises(SealedError):
        learner.learn(session)
    assert learner.classes == ()


def test_no_way_leads_back_to_a_session_that_was_learnt(kind: type[Learner[Any]]) -> None:
    rows = Mapped(features_of(FIRST))
    learner = made(kind)
    session = Session.of(rows, FIRST)
    learner.learn(session)
    watch = weakref.ref(rows)
    del rows, session
    gc.collect()
    assert watch() is None
    assert learner.classes == ("b", "a")


def test_no_more_exemplars_are_held_than_the_memory_allows(kind: type[Learner[Any]]) -> None:
    """In whatever array: rows of the shape of a clip's tokens are clips."""
    for learner in (taught(kind, FIRST, SECOND), taught(kind, FIRST, SECOND, ("f", "g"), memory=3)):
        tokens = (tuple(SHAPE[:2]), tuple(SHAPE[2:]))
        for name, array in learner.state().items():
            if tuple(array.shape[1:]) in tokens:
                assert len(array) <= learner.budget, name
            if name.endswith("targets"):
                assert len(array) <= learner.budget, name


def test_no_hidden_attribute_holds_tokens(kind: type[Learner[Any]]) -> None:
    """What is not in the state would be lost on a resume, and would be memory that nobody counts."""
    learner = taught(kind, FIRST, SECOND)
    named = {id(array) for array in vars(learner).values() if isinstance(array, Tensor)}
    for name, value in vars(learner).items():
        assert not isinstance(value, Features | Session | Mapped), name
        if isinstance(value, list | tuple | dict | set):
            inside = value.values() if isinstance(value, dict) else value
            assert not any(isinstance(each, Tensor | Features) and id(each) not in named for each in inside), name


# ---- the house ------------------------------------------------------------------------------------------------------


def test_final_methods_are_final(kind: type[Learner[Any]]) -> None:
    assert issubclass(kind, Learner)
    for name in ("learn", "scores", "state", "restore"):
        assert getattr(kind, name) is getattr(Learner, name)
    assert kind.__mro__.index(Learner) <= 1, "a learner is an interface or finished: none inherits from another"


def test_settings_are_a_frozen_dataclass_with_defaults(kind: type[Learner[Any]]) -> None:
    settings = kind.Settings()
    assert settings == kind.Settings()
    assert hash(settings) == hash(kind.Settings())  # Frozen, and so are its parts.
    assert kind().settings == settings


def test_a_learner_that_looks_spreads_one_look_over_each_clip(kind: type[Learner[Any]]) -> None:
    learner = taught(kind, FIRST)
    if not isinstance(learner, Looks):
        pytest.skip("it does not look")
    heat = learner.heat(without(random_features(4), sound=[0, 2], picture=[1, 2]))
    assert heat.shape == (4, SHAPE.frames, SHAPE.patches)
    assert (heat >= 0).all()
    torch.testing.assert_close(heat.sum((1, 2)), torch.ones(4))
    assert not heat.requires_grad


def test_a_session_is_features_and_labels_and_nothing_else() -> None:
    session = session_of(FIRST)
    assert Session.__slots__ == ("features", "labels", "validation")
    assert {name for name in dir(session) if not name.startswith("_")} == {"features", "labels", "validation", "of"}
    assert session.validation is None  # Clips to choose an epoch by are there only if the bench's policy gives some.
    assert not hasattr(session, "__dict__")
