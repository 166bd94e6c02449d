"""Rows of features: gathered, joined and chosen as if they were one table."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fakes import SHAPE, Mapped, random_features, without
from harkback import features
from harkback.features import (
    Arrays,
    FeatureRows,
    Features,
    Joined,
    Rows,
    TokenShape,
    batches,
    blank,
    join,
    none_of,
    room_for,
)
from harkback.pooling import pooled, pooled_dim


def equal(one: Features, other: Features) -> bool:
    """Names, numbers and the type of numbers; `torch.equal` asks not for the last."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("audio", "visual", "heard", "seen")]
    return one.ids == other.ids and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def test_rows_are_gathered_in_order_and_copied() -> None:
    clips = without(random_features(5), sound=[3], picture=[1])
    part = clips[torch.tensor([3, 1, 3])]
    assert part.ids == ("clip-0-3", "clip-0-1", "clip-0-3")
    assert part.heard.tolist() == [False, True, False]
    assert part.seen.tolist() == [True, False, True]
    assert torch.equal(part.visual[0], clips.visual[3])
    part.audio[1] = 99
    assert not (clips.audio == 99).any()
    assert clips.shape == SHAPE


def test_no_rows() -> None:
    clips = random_features(3)
    nothing = clips[torch.zeros(0, dtype=torch.long)]
    assert equal(nothing, none_of(SHAPE))
    assert len(nothing) == 0
    assert nothing.shape == SHAPE
    assert equal(join([nothing, clips, nothing]), clips)


@given(st.integers(0, 5), st.integers(0, 5), st.data())
def test_joined_rows_are_those_of_a_copy(left: int, right: int, data: st.DataObject) -> None:
    one, other = random_features(left, 1), random_features(right, 2)
    copy, joined = join([one, other]), Joined(Mapped(one), Mapped(other))
    wanted = data.draw(st.lists(st.integers(0, left + right - 1), max_size=8)) if left + right else []
    rows = torch.tensor(wanted, dtype=torch.long)
    assert len(joined) == left + right
    assert joined.ids == copy.ids
    assert equal(joined[rows], copy[rows])


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_a_choice_of_rows_of_a_choice(first: list[int], data: st.DataObject) -> None:
    clips = random_features(6)
    chosen = Rows(clips, torch.tensor(first, dtype=torch.long))
    assert chosen.ids == tuple(f"clip-0-{row}" for row in first)
    assert len(chosen) == len(first)
    assert chosen.shape == SHAPE
    second = data.draw(st.lists(st.integers(0, len(first) - 1), max_size=8)) if first else []
    found = Rows(chosen, torch.tensor(second, dtype=torch.long))
    expected = clips[torch.tensor([first[row] for row in second], dtype=torch.long)]
    assert equal(found[torch.arange(len(second))], expected)


@given(st.data(), st.sampled_from([torch.float16, torch.float32]), st.sampled_from([features.CHUNK, 200, 1]))
def test_rows_are_copied_to_where_they_are_wanted(data: st.DataObject, dtype: torch.dtype, chunk: int) -> None:
    """In order or not, and into room whose numbers are of another type."""
    clips = without(random_features(6), sound=[3], picture=[1])
    together = st.integers(0, 4).map(lambda first: [*range(first, first + 5)])
    at = data.draw(together | st.permutations(range(9)).map(lambda order: order[:5]))
    rows = data.draw(st.lists(st.integers(0, 5), min_size=5, max_size=5))
    room = room_for(SHAPE, 9, dtype)
    for array in room:
        array.fill_(1)
    expected = [array.clone() for array in room]
    for row, place in zip(rows, at, strict=True):
        for array, source in zip(expected, (clips.audio, clips.visual, clips.heard, clips.seen), strict=True):
            array[place] = source[row]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "CHUNK", chunk)  # A row of pictures takes 168 bytes.
        clips.fill(torch.tensor(rows), room, torch.tensor(at))
    assert all(torch.equal(array, other) for array, other in zip(room, expected, strict=True))


def test_clips_with_sound_of_one_precision_and_pictures_of_another_are_of_the_finer() -> None:
    clips = random_features(2)
    fine = Features(clips.ids, clips.audio, clips.visual.float(), clips.heard, clips.seen)
    assert (clips.dtype, fine.dtype) == (torch.float16, torch.float32)
    assert Rows(fine, torch.tensor([1])).dtype == torch.float32
    for joined in (Joined(clips, fine), Joined(fine, clips)):
        assert joined.dtype == torch.float32
        assert joined.shape == SHAPE
        gathered = joined[torch.tensor([3, 0])]
        assert gathered.audio.dtype == gathered.visual.dtype == torch.float32
        assert torch.equal(gathered.audio, clips.audio[[1, 0]].float())
    assert Joined(clips, clips).dtype == torch.float16


def ways(clips: Features) -> list[FeatureRows]:
    """The same five clips as features, as a choice of rows, and joined, so that a border lies between 2 and 3."""
    back = torch.arange(4, -1, -1)
    left, right = torch.arange(3), torch.arange(3, 5)
    return [clips, Rows(clips[back], back), Joined(Rows(clips, left), clips[right])]


def test_of_two_sources_only_the_one_that_holds_the_rows_is_read() -> None:
    for wanted, reads in (([0, 2], ([2], [])), ([4, 3, 4], ([], [3])), ([4, 0], ([1], [1]))):
        joined = Joined(Mapped(random_features(3)), Mapped(random_features(2)))
        _ = joined[torch.tensor(wanted)]
        assert (joined.first.reads, joined.second.reads) == reads  # type: ignore[attr-defined]


@pytest.mark.parametrize("wanted", [[4, 0, 2], [2], [3, 4], [0, 1], []])
def test_room_is_filled_alike_however_the_rows_are_held(wanted: list[int]) -> None:
    clips, at = random_features(5), [5, 1, 3][: len(wanted)]
    for rows in ways(clips):
        room = Arrays(*(array.zero_() for array in room_for(SHAPE, 7, torch.float16)))
        rows.fill(torch.tensor(wanted, dtype=torch.long), room, torch.tensor(at, dtype=torch.long))
        for name, array in room._asdict().items():
            for place in range(7):
                source = getattr(clips, name)[wanted[at.index(place)]] if place in at else torch.tensor(0)
                assert (array[place] == source).all()


class InBetween(TorchFunctionMode):
    """The bytes of the largest tensor that is made, beside those that were there before."""

    def __init__(self, *there: Tensor) -> None:
        super().__init__()
        self.there = {tensor.untyped_storage().data_ptr() for tensor in there}
        self.most = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in self.there:
            self.most = max(self.most, made.nbytes)
        return made


def in_between(rows: Tensor, at: Tensor) -> int:
    """What it takes to fill room, apart from the room."""
    clips, room = random_features(64), room_for(SHAPE, 80, torch.float16)
    with InBetween(*room, clips.audio, clips.visual, clips.heard, clips.seen, rows, at) as seen:
        clips.fill(rows, room, at)
    assert torch.equal(room.visual[at], clips.visual[rows])
    return seen.most


def test_rows_that_come_to_stand_together_are_not_copied_twice() -> None:
    """64 rows of pictures are 10752 bytes, of sound 3840; their numbers are 512."""
    rows = torch.arange(63, -1, -1)
    for first in (0, 9):
        assert in_between(rows, torch.arange(first, first + 64)) <= 512


def test_rows_that_come_to_stand_apart_are_copied_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the bytes allow, but one at least: rows take 168 bytes (pictures), 60 (sound) and 1."""
    for chunk, most in ((800, 13 * 60), (340, 2 * 168), (1, 168)):
        monkeypatch.setattr(features, "CHUNK", chunk)
        assert in_between(torch.arange(16), torch.arange(79, 63, -1)) == most


def test_what_has_no_columns_is_not_wanted() -> None:
    clips = random_features(5)
    for rows in ways(clips):
        room = room_for(SHAPE, 2, torch.float16)._replace(visual=torch.zeros(2, 0), seen=torch.zeros(2, 0).bool())
        rows.fill(torch.tensor([4, 1]), room, torch.tensor([0, 1]))
        assert torch.equal(room.audio, clips.audio[[4, 1]])
        assert room.heard.all()


def test_room_has_the_shape_and_the_numbers_that_are_asked_for() -> None:
    for dtype in (torch.float16, torch.float64):
        room = room_for(TokenShape(2, 3, 4, 5, 6), 7, dtype)
        assert [tuple(array.shape) for array in room] == [(7, 2, 3), (7, 4, 5, 6), (7,), (7,)]
        assert [array.dtype for array in room] == [dtype, dtype, torch.bool, torch.bool]
    room.heard.fill_(True)
    room.seen.fill_(False)
    assert room.heard.all()  # The one is not the other.


def test_nobody_has_neither_name_nor_sound_nor_picture() -> None:
    shape = TokenShape(2, 3, 4, 5, 6)
    for clips, count in ((none_of(shape), 0), (none_of(shape, torch.float32), 0), (blank(shape), 1)):
        assert clips.ids == ("",) * count
        assert len(clips) == count
        assert clips.shape == shape
        assert clips.audio.shape == (count, 2, 3)
        assert clips.visual.shape == (count, 4, 5, 6)
        assert clips.heard.shape == clips.seen.shape == (count,)
        assert clips.heard.dtype == clips.seen.dtype == torch.bool
        assert not any(x.any() for x in (clips.audio, clips.visual, clips.heard, clips.seen))
    assert none_of(shape).audio.dtype == none_of(shape).visual.dtype == torch.float16
    coarse = none_of(shape, torch.float32)
    assert coarse.audio.dtype == coarse.visual.dtype == torch.float32
    empty = blank(shape)
    empty.heard[0] = True
    assert not empty.seen[0]  # The one is not the other.


def test_features_and_choices_of_them_cannot_be_made_others() -> None:
    clips = random_features(2)
    for noun, name in ((clips, "audio"), (Rows(clips, torch.tensor([0])), "chosen"), (Joined(clips, clips), "first")):
        with pytest.raises(FrozenInstanceError):
            setattr(noun, name, None)


@given(st.integers(0, 50), st.integers(1, 20))
def test_batches_are_all_rows_in_order(count: int, size: int) -> None:
    parts = [batch.tolist() for batch in batches(count, size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert all(len(part) == size for part in parts[:-1])
    assert all(parts)


# ---- pooled ---------------------------------------------------------------------------------------------------------


def test_pooled_is_mean_deviation_and_peak_of_each() -> None:
    clips = without(random_features(3), sound=[1], picture=[2])
    vectors = pooled(clips)
    assert vectors.shape == (3, pooled_dim(SHAPE))
    assert vectors.dtype == torch.float64
    for i in range(3):
        expected: list[float] = []
        for tokens, there in ((clips.audio[i], clips.heard[i]), (clips.visual[i].flatten(0, 1), clips.seen[i])):
            columns = tokens.double().T.tolist()
            mean = [sum(c) / len(c) for c in columns]
            spread = [(sum((x - m) ** 2 for x in c) / len(c)) ** 0.5 for c, m in zip(columns, mean, strict=True)]
            expected += [x * bool(there) for x in (*mean, *spread, *(max(c) for c in columns))]
        assert vectors[i].tolist() == pytest.approx([*expected, float(i != 1), float(i != 2)], abs=5e-7)
