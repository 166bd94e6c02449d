"""Exemplars under any course of sessions: classes that come again, classes of one clip, budgets too small for all."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fakes import random_features
from harkback.features import Features, Joined
from harkback.memory import Memory, herd, quotas

COURSES = st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=5)
HOW = st.sampled_from(["herding", "random"])


def vectors_of(ids: tuple[str, ...]) -> Tensor:
    """Of each clip its own, whichever order they stand in."""
    drawn = [torch.randn(4, generator=torch.Generator().manual_seed(hash_of(name))) for name in ids]
    return torch.stack(drawn) if drawn else torch.zeros(0, 4)


def hash_of(name: str) -> int:
    _, seed, number = name.split("-")
    return 1000 * int(seed) + int(number)


def numbered(course: list[list[int]]) -> list[list[int]]:
    """The same with classes numbered as they come."""
    number = {c: i for i, c in enumerate(dict.fromkeys(c for session in course for c in session))}
    return [[number[c] for c in session] for session in course]


def taken(course: list[list[int]], budget: int, how: str, seed: int) -> list[Memory]:
    """A copy of the memory after each session."""
    memory, found, classes = Memory(budget), [], 0
    generator = torch.Generator().manual_seed(seed)
    for t, labels in enumerate(numbered(course)):
        new, fresh = random_features(len(labels), seed=t), torch.tensor(labels, dtype=torch.long)
        classes = max([classes, *(label + 1 for label in labels)])
        rows = new if memory.features is None else Joined(new, memory.features)
        targets = torch.cat([fresh, memory.targets])
        memory.keep(rows, targets, vectors_of(rows.ids), classes, how, generator)  # type: ignore[arg-type]
        copy = Memory(budget)
        copy.restore(memory.state())
        found.append(copy)
    return found


def held(memory: Memory) -> Features:
    assert memory.features is not None
    return memory.features


@given(COURSES, st.integers(0, 14), HOW, st.integers(0, 99))
def test_what_is_kept_was_offered_fits_and_is_what_it_says(
    course: list[list[int]], budget: int, how: str, seed: int
) -> None:
    offered: dict[str, int] = {}
    before: dict[str, int] = {}
    classes = 0
    for t, (labels, memory) in enumerate(zip(numbered(course), taken(course, budget, how, seed), strict=True)):
        fresh = {f"clip-{t}-{i}": label for i, label in enumerate(labels)}
        offered |= fresh
        classes = max([classes, *(label + 1 for label in labels)])
        kept = dict(zip(held(memory).ids, memory.targets.tolist(), strict=True))
        assert len(kept) == len(memory) <= budget
        assert kept.items() <= offered.items()
        assert kept.items() <= (before | fresh).items()  # What was let go of does not come back.
        for target, quota in enumerate(quotas(budget, classes)):
            had = sum(c == target for c in (before | fresh).values())
            assert sum(c == target for c in kept.values()) == min(quota, had)
        for row, name in enumerate(held(memory).ids):
            _, session, number = name.split("-")
            source = random_features(len(course[int(session)]), int(session))
            assert torch.equal(held(memory).audio[row], source.audio[int(number)])
        # A class without new clips keeps the first of what it had, in the same order.
        for target in set(range(classes)) - set(labels):
            mine = [name for name in kept if kept[name] == target]
            assert mine == [name for name in before if before[name] == target][: len(mine)]
        before = kept


@settings(max_examples=max(8, settings.default.max_examples // 4))
@given(COURSES, st.integers(0, 14), HOW, st.integers(0, 99))
def test_the_same_course_and_seed_keep_the_same(course: list[list[int]], budget: int, how: str, seed: int) -> None:
    one, other = (taken(course, budget, how, seed) for _ in range(2))
    assert [held(m).ids for m in one] == [held(m).ids for m in other]


@given(st.integers(3, 12), st.integers(0, 12), st.integers(0, 999), st.data())
def test_herding_does_not_go_by_the_order_of_the_clips(clips: int, count: int, seed: int, data: st.DataObject) -> None:
    """Of two clips alone both are as near to their mean, and the first is taken."""
    vectors = torch.randn(clips, 4, generator=torch.Generator().manual_seed(seed))
    order = torch.tensor(data.draw(st.permutations(range(clips))))
    assert order[herd(vectors[order], count)].tolist() == herd(vectors, count).tolist()
