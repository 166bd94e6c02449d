"""Streams: every training clip dealt once, sessions of their own classes, and no way back into a closed one."""

from __future__ import annotations

import gc
import weakref
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import SHAPE, Mapped, random_features
from harkback.errors import HarkbackError
from harkback.features import Arrays, Features, room_for
from harkback.stream import Sealed, SealedError, Session, Stream, cut, shuffled

NAMES = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=30)


# ---- cut ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.data())
def test_one_number_cuts_into_that_many_sessions_as_equal_as_can_be(classes: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, classes))
    sizes = cut(classes, [count])
    assert len(sizes) == count
    assert sum(sizes) == classes
    assert max(sizes) - min(sizes) <= 1
    assert list(sizes) == sorted(sizes, reverse=True)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=8))
def test_several_numbers_are_the_sizes(sizes: list[int]) -> None:
    assert cut(sum(sizes), sizes) == tuple(sizes)


@pytest.mark.parametrize(
    ("classes", "sessions"), [(5, [6]), (5, [0]), (5, [-1]), (5, [2, 2]), (5, [3, 3]), (5, [5, 0]), (5, [6, -1])]
)
def test_sizes_that_do_not_fit(classes: int, sessions: list[int]) -> None:
    with pytest.raises(HarkbackError, match="5"):
        cut(classes, sessions)


def test_what_is_said_of_sizes_that_do_not_fit() -> None:
    for sessions, said in (
        ([], "no sessions are asked for; give a number of sessions, or their sizes in classes"),
        ([6], "5 classes cannot be cut into 6 sessions; ask for 1 to 5 sessions"),
        (
            [2, 4],
            "sessions of 2,4 classes are 6 in all, but there are 5; "
            "give sizes of at least 1 that add up to the number of classes, or one number of equal sessions",
        ),
    ):
        with pytest.raises(HarkbackError) as error:
            cut(5, sessions)
        assert str(error.value) == said


def test_sizes_by_hand() -> None:
    assert cut(10, [5]) == (2, 2, 2, 2, 2)
    assert cut(11, [4]) == (3, 3, 3, 2)
    assert cut(1, [1]) == (1,)
    assert cut(6, [3, 1, 2]) == (3, 1, 2)


# ---- class order ----------------------------------------------------------------------------------------------------


@given(st.sets(st.text(min_size=1, max_size=3), min_size=1), st.integers(0, 2**40), st.randoms())
def test_the_order_is_the_seeds_alone(names: set[str], seed: int, chance: object) -> None:
    given_ = list(names)
    order = shuffled(given_, seed)
    assert sorted(order) == sorted(names)
    chance.shuffle(given_)  # type: ignore[attr-defined]
    assert shuffled(given_, seed) == order


def test_seeds_give_different_orders() -> None:
    names = [f"class {i}" for i in range(8)]
    assert len({shuffled(names, seed) for seed in range(20)}) == 20
    assert {shuffled(names, seed)[0] for seed in range(100)} == set(names)  # Anyone may be first.


def test_drawing_an_order_leaves_other_draws_as_they_were() -> None:
    before = torch.get_rng_state()
    shuffled("abcdef", 7)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_order_never_changes_between_versions() -> None:
    """Published numbers name seeds, so what a seed means is part of the format."""
    assert shuffled("abcdef", 0) == tuple("abcdef"[i] for i in _permutation(6, 0))


def _permutation(count: int, seed: int) -> list[int]:
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    order: list[int] = torch.randperm(count).tolist()
    torch.set_rng_state(state)
    return order


# ---- streams --------------------------------------------------------------------------------------------------------


def stream_of(labels: list[str], data: st.DataObject) -> Stream:
    names = data.draw(st.permutations(sorted(set(labels))))
    sizes: list[int] = []
    while sum(sizes) < len(names):
        sizes.append(data.draw(st.integers(1, len(names) - sum(sizes))))
    return Stream(random_features(len(labels)), labels, names, sizes)


@given(NAMES, st.data())
def test_each_row_is_dealt_once_and_classes_do_not_mix(labels: list[str], data: st.DataObject) -> None:
    stream = stream_of(labels, data)
    dealt: list[str] = []
    seen: set[str] = set()
    for t, session in enumerate(stream):
        with session:
            assert set(session.labels) == set(stream.classes(t))
            assert not set(session.labels) & seen
            assert len(session.features) == len(session.labels)
            seen |= set(session.labels)
            # Classes stand in the stream's order, and each label beside its own row.
            assert tuple(dict.fromkeys(session.labels)) == stream.classes(t)
            for name, label in zip(session.features.ids, session.labels, strict=True):
                assert labels[int(name.rpartition("-")[2])] == label
            dealt += session.features.ids
    assert sorted(dealt) == sorted(random_features(len(labels)).ids)
    assert seen == set(labels)


@given(NAMES, st.data())
def test_all_up_to_a_session_is_what_was_dealt_until_then(labels: list[str], data: st.DataObject) -> None:
    stream = stream_of(labels, data)
    ids: list[str] = []
    for t in range(len(stream)):
        with stream[t] as session, stream.upto(t) as everything:
            ids += session.features.ids
            assert everything.features.ids == tuple(ids)
            assert tuple(dict.fromkeys(everything.labels)) == stream.seen(t)
            tokens = everything.features[torch.arange(len(ids))]
            rows = [int(name.rpartition("-")[2]) for name in ids]
            assert torch.equal(tokens.audio, random_features(len(labels)).audio[rows])


def test_nothing_is_read_before_it_is_asked_for() -> None:
    rows = Mapped(random_features(6))
    stream = Stream(rows, list("aabbcc"), "abc", [2, 1])
    with stream[0] as session:
        assert rows.reads == []
        part = session.features[torch.tensor([3, 0])]
        assert part.ids == ("clip-0-3", "clip-0-0")
    assert rows.reads == [2]


def test_a_session_can_be_had_again() -> None:
    stream = Stream(random_features(4), list("abab"), "ba", [1, 1])
    for _ in range(2):
        with stream[0] as session:
            assert session.features.ids == ("clip-0-1", "clip-0-3")
    with pytest.raises(IndexError):
        stream[2]


@pytest.mark.parametrize(
    ("order", "sizes"),
    [("ab", [1, 1]), ("abcd", [2, 2]), ("abc", [2, 2]), ("abc", [1]), ("abd", [3])],
)
def test_an_order_that_does_not_fit(order: str, sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^the order must name each label once and the sizes must add up to it$"):
        Stream(random_features(3), list("abc"), order, sizes)


def test_a_stream_does_not_change_with_the_lists_it_was_made_of() -> None:
    labels, order, sizes = list("abab"), list("ba"), [1, 1]
    stream = Stream(random_features(4), labels, order, sizes)
    for told in (labels, order, sizes):
        told.clear()
    assert [stream[t].labels for t in range(2)] == [("b", "b"), ("a", "a")]


def test_an_order_that_names_a_class_twice() -> None:
    with pytest.raises(ValueError, match="order"):
        Stream(random_features(3), list("abc"), "abca", [3, 1])


# ---- sealed ---------------------------------------------------------------------------------------------------------


def test_a_closed_session_cannot_be_read_in_any_way() -> None:
    with Stream(random_features(4), list("abab"), "ab", [1, 1])[0] as session:
        features = session.features
        assert len(features) == 2
    for ask in (
        lambda: features[torch.tensor([0])],
        lambda: features.ids,
        lambda: features.shape,
        lambda: len(features),
    ):
        with pytest.raises(SealedError, match="closed"):
            ask()
    assert session.labels == ("a", "a")


def test_a_learner_is_told_why_it_cannot_read() -> None:
    with Session.of(random_features(1), "a") as session:
        pass
    with pytest.raises(SealedError) as error:
        len(session.features)
    assert str(error.value) == "this session is closed; a learner may keep only what its memory holds"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_an_open_session_fills_room_as_its_clips_would_and_a_closed_one_nothing(dtype: torch.dtype) -> None:
    clips = random_features(4, dtype=dtype)
    rows, at = torch.tensor([3, 1]), torch.tensor([0, 2])
    room, untouched = (Arrays(*(array.zero_() for array in room_for(SHAPE, 3, dtype))) for _ in range(2))
    with Session.of(clips, "abab") as session:
        assert session.features.dtype == dtype
        assert session.features.shape == SHAPE
        session.features.fill(rows, room, at)
    for name, array in room._asdict().items():
        assert torch.equal(array[at], getattr(clips, name)[rows])
        assert not array[1].any()
    with pytest.raises(SealedError):
        session.features.fill(rows, untouched, at)
    with pytest.raises(SealedError):
        _ = session.features.dtype
    assert not any(array.any() for array in untouched)


def test_the_clips_to_choose_an_epoch_by_are_closed_with_the_session() -> None:
    session = Session.of(random_features(2), "ab", Session.of(random_features(1, seed=1), "b"))
    assert session.validation is not None
    with session:
        assert session.validation.features.ids == ("clip-1-0",)
    with pytest.raises(SealedError):
        len(session.validation.features)
    assert Session.of(random_features(2), "ab").validation is None


def test_a_session_cannot_be_opened_anew() -> None:
    """What would let a learner look again: another reader in the place of the closed one."""
    with Session.of(random_features(2), "ab") as session:
        pass
    with pytest.raises(FrozenInstanceError):
        session.features = random_features(2)  # type: ignore[misc]


def test_it_is_closed_by_an_error_too() -> None:
    session = Session.of(random_features(2), "ab")
    with pytest.raises(RuntimeError, match="in between"), session:
        raise RuntimeError("in between")
    with pytest.raises(SealedError):
        len(session.features)


def test_a_closed_session_holds_nothing() -> None:
    rows = Mapped(random_features(2))
    watch = weakref.ref(rows)
    session = Session.of(rows, "ab")
    with session:
        pass
    del rows
    gc.collect()
    assert watch() is None
    assert isinstance(session.features, Sealed)


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="2 clips but 3 labels"):
        Session.of(random_features(2), "abc")


def test_closing_one_session_leaves_another_open() -> None:
    stream = Stream(random_features(4), list("abab"), "ab", [1, 1])
    one, other = stream[0], stream[1]
    with one:
        pass
    read = other.features[torch.tensor([0])]
    assert isinstance(read, Features)
    assert read.ids == ("clip-0-1",)
