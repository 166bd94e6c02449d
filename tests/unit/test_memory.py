"""Exemplars: what herding and quotas say they are, and what a memory keeps as classes come."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from fakes import Mapped, random_features, same_state
from harkback.features import Joined
from harkback.memory import Memory, herd, quotas


def draws(clips: int, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(clips, width, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- herding --------------------------------------------------------------------------------------------------------


def by_definition(vectors: list[list[float]], count: int) -> list[int]:
    """iCaRL's algorithm 4: p_k = argmin_x | mu - (x + sum of the chosen) / k |, on vectors of length one."""
    unit = []
    for v in vectors:
        length = sum(x * x for x in v) ** 0.5
        unit.append([x / length for x in v])
    mu = [sum(column) / len(unit) for column in zip(*unit, strict=True)]
    chosen: list[int] = []
    for k in range(1, min(count, len(unit)) + 1):

        def distance(i: int, k: int = k) -> float:
            parts = [unit[j] for j in [*chosen, i]]
            return sum((m - sum(column) / k) ** 2 for m, column in zip(mu, zip(*parts, strict=True), strict=True))

        chosen.append(min((i for i in range(len(unit)) if i not in chosen), key=distance))
    return chosen


@given(st.integers(1, 12), st.integers(0, 15), st.integers(0, 1000))
def test_herding_is_icarls_greedy_choice(clips: int, count: int, seed: int) -> None:
    vectors = draws(clips, seed=seed)
    assert herd(vectors, count).tolist() == by_definition(vectors.double().tolist(), count)


@given(st.integers(1, 12), st.integers(0, 1000))
def test_fewer_are_the_first_of_more(clips: int, seed: int) -> None:
    vectors = draws(clips, seed=seed)
    everyone = herd(vectors, clips).tolist()
    assert sorted(everyone) == list(range(clips))
    for count in range(clips):
        assert herd(vectors, count).tolist() == everyone[:count]


def test_lengths_of_vectors_do_not_matter() -> None:
    vectors = draws(9)
    assert herd(vectors, 5).tolist() == herd(vectors * torch.arange(1, 10)[:, None], 5).tolist()


def test_herding_vectors_of_zeros_and_vectors_that_are_alike() -> None:
    assert sorted(herd(torch.zeros(4, 3), 4).tolist()) == [0, 1, 2, 3]
    assert sorted(herd(torch.ones(4, 3), 3).tolist()) == [0, 1, 2]  # Nobody is chosen twice.


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_vectors_that_are_all_but_alike_are_compared_in_double_precision(dtype: torch.dtype) -> None:
    """In the vectors' own numbers the differences between distances would be rounding."""
    for seed in range(3):
        vectors = (draws(40, seed=seed) / 16 if dtype == torch.float16 else 1 + draws(40, seed=seed) / 2**20).to(dtype)
        assert herd(vectors, 40).tolist() == by_definition(vectors.double().tolist(), 40)


# ---- quotas ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 30))
def test_quotas_are_equal_shares_within_the_budget(budget: int, classes: int) -> None:
    shares = quotas(budget, classes)
    assert len(shares) == classes
    assert sum(shares) <= budget
    if budget >= classes:
        assert set(shares) <= {budget // classes if classes else 0}
    else:
        assert sorted(shares, reverse=True) == shares == [1] * budget + [0] * (classes - budget)


# ---- memory ---------------------------------------------------------------------------------------------------------


def filled(budget: int = 6, how: str = "herding", seed: int = 0) -> tuple[Memory, Tensor]:
    """A memory of two classes, from ten clips each."""
    memory, rows = Memory(budget), random_features(20)
    targets, vectors = torch.arange(20) % 2, draws(20)
    memory.keep(rows, targets, vectors, 2, how, seeded(seed))  # type: ignore[arg-type]
    return memory, vectors


def test_each_class_keeps_the_best_of_its_own() -> None:
    memory, vectors = filled()
    expected = []
    for target in range(2):
        mine = [row for row in range(20) if row % 2 == target]
        best = by_definition(vectors[mine].double().tolist(), 3)
        expected += [f"clip-0-{mine[i]}" for i in best]
    assert memory.features is not None
    assert memory.features.ids == tuple(expected)
    assert memory.targets.tolist() == [0, 0, 0, 1, 1, 1]
    whole = random_features(20)
    rows = [int(name.rpartition("-")[2]) for name in expected]
    assert torch.equal(memory.features.audio, whole.audio[rows])  # The right tokens under the right names.


def test_exemplars_stand_behind_the_clips_of_a_session() -> None:
    new, numbers = random_features(10, seed=1), torch.full((10,), 2)
    rows, targets = Memory(6).beside(new, numbers)
    assert rows is new and targets.tolist() == [2] * 10
    memory, _ = filled()
    rows, targets = memory.beside(new, numbers)
    assert memory.features is not None
    assert rows.ids == new.ids + memory.features.ids
    assert targets.tolist() == [2] * 10 + [0, 0, 0, 1, 1, 1]
    assert torch.equal(rows[torch.arange(16)].audio, torch.cat([new.audio, memory.features.audio]))


def test_a_new_class_cuts_the_old_ones_to_their_first() -> None:
    memory, _ = filled()
    assert memory.features is not None
    before = memory.features.ids
    new = random_features(10, seed=1)
    rows = Joined(new, memory.features)
    targets = torch.cat([torch.full((10,), 2), memory.targets])
    vectors = draws(16, seed=5)  # Other vectors than those by which the old ones were chosen.
    memory.keep(rows, targets, vectors, 3, "herding", seeded())
    assert memory.features.ids[:4] == (before[0], before[1], before[3], before[4])
    assert memory.targets.tolist() == [0, 0, 1, 1, 2, 2]
    best = by_definition(vectors[:10].double().tolist(), 2)
    assert memory.features.ids[4:] == tuple(f"clip-1-{i}" for i in best)


@pytest.mark.parametrize("how", ["herding", "random"])
def test_a_class_that_comes_again_is_chosen_from_old_and_new_clips(how: str) -> None:
    memory, _ = filled(how=how)
    assert memory.features is not None
    before = memory.features.ids
    new = random_features(10, seed=1)
    rows = Joined(new, memory.features)
    targets = torch.cat([torch.zeros(10, dtype=torch.long), memory.targets])
    vectors = draws(16, seed=5)
    memory.keep(rows, targets, vectors, 2, how, seeded(3))  # type: ignore[arg-type]
    assert memory.features.ids[3:] == before[3:]
    pool = [*range(10), 10, 11, 12]  # The new ones and the three that were kept.
    if how == "herding":
        names = rows.ids
        best = by_definition(vectors[pool].double().tolist(), 3)
        assert memory.features.ids[:3] == tuple(names[pool[i]] for i in best)
    else:
        assert set(memory.features.ids[:3]) <= {rows.ids[i] for i in pool}
        assert len(set(memory.features.ids[:3])) == 3


def test_a_random_choice_is_the_generators() -> None:
    ids = [filled(how="random", seed=seed)[0].features.ids for seed in (0, 0, 1)]  # type: ignore[union-attr]
    assert ids[0] == ids[1] != ids[2]


def test_a_random_choice_is_even() -> None:
    """Every clip of a class is as likely as another: 300 draws of 3 of 10, so 90 of each, give or take 8."""
    seen = dict.fromkeys(range(0, 20, 2), 0)
    for seed in range(300):
        features = filled(how="random", seed=seed)[0].features
        assert features is not None
        for name in features.ids[:3]:
            seen[int(name.rpartition("-")[2])] += 1
    assert sum(seen.values()) == 900
    assert all(50 < count < 130 for count in seen.values())


def test_fewer_places_than_classes() -> None:
    memory = Memory(2)
    memory.keep(random_features(9), torch.arange(9) % 3, draws(9), 3, "herding", seeded())
    assert memory.targets.tolist() == [0, 1]
    memory = Memory(0)
    memory.keep(random_features(9), torch.arange(9) % 3, draws(9), 3, "herding", seeded())
    assert len(memory) == 0


def test_no_class_no_exemplar() -> None:
    memory = Memory(5)
    memory.keep(random_features(0), torch.zeros(0, dtype=torch.long), draws(0), 0, "herding", seeded())
    assert memory.features is not None
    assert memory.features.ids == ()
    assert memory.targets.tolist() == []


def test_a_class_with_fewer_clips_than_its_share_leaves_places_empty() -> None:
    memory = Memory(10)
    memory.keep(random_features(7), torch.tensor([0, 1, 1, 1, 1, 1, 1]), draws(7), 2, "herding", seeded())
    assert memory.targets.tolist() == [0, 1, 1, 1, 1, 1]


def test_only_what_is_kept_is_read() -> None:
    rows, memory = Mapped(random_features(20)), Memory(4)
    memory.keep(rows, torch.arange(20) % 2, draws(20), 2, "herding", seeded())
    assert rows.reads == [4]


def test_the_state_is_all_of_it() -> None:
    memory, _ = filled()
    other = Memory(6)
    other.restore(load(save(memory.state())))
    assert same_state(memory.state(), other.state())
    assert other.features is not None
    assert memory.features is not None
    assert other.features.ids == memory.features.ids
    assert other.budget == 6
    empty = Memory(6)
    assert empty.state() == {}
    other.restore(empty.state())
    assert len(other) == 0
    assert other.features is None


def test_ids_of_any_text_survive() -> None:
    for name in ("é", "鐘/1.mp4", 'a"b', "\\udcff", ""):
        memory, rows = Memory(1), random_features(1)
        rows = type(rows)((name,), rows.audio, rows.visual, rows.heard, rows.seen)
        memory.keep(rows, torch.tensor([0]), draws(1), 1, "herding", seeded())
        other = Memory(1)
        other.restore(memory.state())
        assert other.features is not None
        assert other.features.ids == (name,)


def test_brute_force_agrees_with_itself() -> None:
    """The reference above is greedy, not optimal; for one exemplar the two are the same."""
    vectors = draws(8).double()
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    nearest = min(itertools.chain(range(8)), key=lambda i: float((unit[i] - unit.mean(0)).norm()))
    assert by_definition(vectors.tolist(), 1) == [nearest] == herd(vectors, 1).tolist()
