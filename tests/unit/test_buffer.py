"""Rows read into a buffer are those read otherwise, whatever they are rows of, and always lie in the same place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import SHAPE, Fake, Mapped, random_features, without
from harkback import buffer as module
from harkback.buffer import Buffer, reading
from harkback.features import FeatureRows, Features, Joined, Rows, TokenShape
from harkback.modality import Only
from harkback.store import FeatureStore
from harkback.stream import Sealed

COUNT = 12  #: rows of each kind
SPEC = Fake().spec


def plain(seed: int = 0, shape: TokenShape = SHAPE, dtype: torch.dtype = torch.float16) -> Features:
    return without(random_features(COUNT, seed, shape, dtype), sound=[3, 4], picture=[1, 4])


def stored(root: Path) -> FeatureRows:
    """Shards of five rows."""
    store = FeatureStore.open(root, SPEC)
    features = plain(shape=SPEC.shape)
    for part in torch.arange(COUNT).split(5):
        store.add(features[part], {})
    return store.rows(features.ids, features.ids)


def joined() -> Joined:
    return Joined(plain()[torch.arange(7)], Mapped(plain()[torch.arange(7, COUNT)]))


KINDS: dict[str, tuple[Callable[[Path], FeatureRows], Callable[[], Features]]] = {
    "features": (lambda _: plain(), plain),
    "float32": (lambda _: plain(dtype=torch.float32), lambda: plain(dtype=torch.float32)),
    "mapped": (lambda _: Mapped(plain()), plain),
    "sealed": (lambda _: Sealed(Mapped(plain())), plain),
    "stored": (stored, lambda: plain(shape=SPEC.shape)),
    "chosen": (lambda _: Rows(plain()[torch.arange(COUNT).flip(0)], torch.arange(COUNT).flip(0)), plain),
    "joined": (lambda _: joined(), plain),
    "chosen of joined": (lambda _: Rows(joined(), torch.arange(COUNT)), plain),
}


def same(one: Features, other: Features) -> bool:
    names = ("audio", "visual", "heard", "seen")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return one.ids == other.ids and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [[0], [5, 3, 11, 3, 0, 7, 6], [*range(COUNT)], [8, 7, 6], []])
def test_a_batch_is_its_rows(kind: str, batch: list[int], tmp_path: Path) -> None:
    rows, expected = KINDS[kind][0](tmp_path), KINDS[kind][1]()
    read = Buffer(rows, COUNT)
    read(torch.arange(COUNT).flip(0))  # What is there now must all be written over.
    wanted = torch.tensor(batch, dtype=torch.long)
    assert same(read(wanted), expected[wanted])
    assert same(rows[wanted], expected[wanted])


@pytest.mark.parametrize("modality", ["audio", "visual"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_modality_alone(kind: str, modality: str, tmp_path: Path) -> None:
    rows, whole = KINDS[kind][0](tmp_path), KINDS[kind][1]()
    alone = Only(rows, modality)  # type: ignore[arg-type]
    read, batch = Buffer(alone, 5), torch.tensor([4, 9, 1])
    for array in read.room:
        array.fill_(1)
    part = read(batch)
    heard, seen = modality == "audio", modality == "visual"
    assert part.shape == alone.shape
    assert torch.equal(part.audio, whole.audio[batch] if heard else torch.zeros(3, 1, 1, dtype=whole.dtype))
    assert torch.equal(part.visual, whole.visual[batch] if seen else torch.zeros(3, 1, 1, 1, dtype=whole.dtype))
    assert torch.equal(part.heard, whole.heard[batch] & heard)
    assert torch.equal(part.seen, whole.seen[batch] & seen)
    assert same(alone[batch], part)


def test_it_is_always_the_same_memory() -> None:
    read = Buffer(plain(), 4)
    first = read(torch.tensor([0, 1, 2, 3]))
    places = [array.data_ptr() for array in read.room]
    second = read(torch.tensor([9, 8]))
    for part in (first, second):
        assert [array.data_ptr() for array in (part.audio, part.visual, part.heard, part.seen)] == places
    assert torch.equal(first.visual[:2], second.visual)  # What was returned before is not valid any more.
    assert torch.equal(second.visual, plain().visual[[9, 8]])
    with pytest.raises(ValueError, match="5 rows, and room for 4"):
        read(torch.arange(5))


def test_what_it_reads_from_is_not_written_to() -> None:
    rows = plain()
    read = Buffer(rows, COUNT)
    read(torch.arange(COUNT)).audio.fill_(9)
    assert same(rows, plain())


def test_rows_of_two_types_are_read_in_the_wider() -> None:
    rows = Joined(plain(1), plain(2, dtype=torch.float32))
    assert rows.dtype == torch.float32
    part = Buffer(rows, 4)(torch.tensor([0, 20, 5, 13]))
    half, full = plain(1).visual.float(), plain(2, dtype=torch.float32).visual
    assert torch.equal(part.visual, torch.stack([half[0], full[8], half[5], full[1]]))


@given(st.integers(0, COUNT), st.integers(1, COUNT + 3))
def test_reading_is_all_rows_in_order(count: int, size: int) -> None:
    rows = Mapped(plain()[torch.arange(count)])
    numbers, parts = [], []
    for batch, part in reading(rows, size):
        numbers += batch.tolist()
        parts += [row.clone() for row in part.visual]
        assert part.ids == tuple(rows.ids[row] for row in batch.tolist())
    assert numbers == list(range(count))
    assert torch.equal(torch.stack(parts) if parts else plain().visual[:0], plain().visual[:count])
    assert rows.reads == [min(size, count - first) for first in range(0, count, size)]


def test_as_many_at_a_time_as_stay_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    row = 2 * (6 * 5 + 3 * 4 * 7) + 2  # Bytes: half precision, and two masks.
    for room, limit, expected in ((5 * row, 100, 5), (6 * row - 1, 100, 5), (5 * row, 4, 4), (1, 100, 1)):
        monkeypatch.setattr(module, "CACHED", room)
        monkeypatch.setattr(module, "READ", limit)
        rows = Mapped(plain())
        assert sum(len(part) for _, part in reading(rows)) == COUNT
        assert rows.reads[0] == expected
